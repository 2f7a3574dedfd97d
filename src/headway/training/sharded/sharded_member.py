"""Member with shards: a worker below the root, which does what the root says comes next."""

import contextlib
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import msgspec

from headway.base.errors import BrokenContract, Exit, RefusalMessage, message_of
from headway.base.process import Stop
from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import Batch, prefetch
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Losses, Measured
from headway.runs.settled import Settled
from headway.training.distributed.messages import (
    Begin,
    End,
    Enter,
    EvaluatedRows,
    JointPart,
    Start,
)
from headway.training.distributed.place import TeamPlace
from headway.training.failures import as_refusal
from headway.training.phases import Phases
from headway.training.setup import StartState, restore
from headway.training.sharded.sharded_team import ShardedMember, telling_why
from headway.training.sharded.sharded_trainer import ShardedTrainer, set_up_shards
from headway.training.sharded.sharding import Sharding
from headway.training.trainer import batch_maker


def run_sharded_member(
    path: Path, plan: Plan, settled: Settled, place: TeamPlace, phases: Phases, stop: Stop
) -> int:
    """Do what the root says, until it says that nothing comes any more.

    Args:
        path: the run's folder.
        plan: of the run.
        settled: of the run.
        place: of this process among the workers.
        phases: current phase, shown in the pulse alone.
        stop: the stop request, which is reported to the root.

    Returns:
        The exit code.

    Raises:
        Refusal: it cannot start or continue, or the root is gone.
    """
    assert place.links, "a member is not alone"

    def refuse(error: Exception) -> RefusalMessage:
        return message_of(as_refusal(error, f"training (worker {place.rank})", plan, settled, path))

    with telling_why(place.links, place.rank, refuse):
        sharding = Sharding.of(place.tree, plan.machine.device)
        setup, settled, _ = set_up_shards(plan, settled, sharding, phases)
        first = place.links.hear()
        if not isinstance(first, Start):
            return Exit.KEPT
        settled = msgspec.json.decode(first.settled, type=Settled)
        start = restore(setup, plan, first.checkpoint)
        parameters = list(setup.parameters.values())
        team = ShardedMember(
            place.tree, place.rank, place.links, parameters, first, lambda: stop.by, refuse
        )
        trainer = ShardedTrainer(
            sharding, RunFolder(path), plan, settled, setup, _measured(start), phases, team
        )
        _follow(trainer, team, phases)
    return Exit.KEPT


def _measured(start: StartState) -> StartState:
    """Where a job starts, with losses in place of those that the root will ask for."""
    return start if start.before else replace(start, before=Losses(Measured(0.0, 0.0, 0), None))


def _follow(trainer: ShardedTrainer, team: ShardedMember, phases: Phases) -> None:
    """Do one thing after the other."""
    with phases(Phase.TRAINING), contextlib.ExitStack() as batches:
        ahead: Generator[Batch] | None = None
        while not isinstance(decision := team.next_decision(), End):
            if isinstance(decision, Begin):
                batches.close()
                made = _batches(trainer, decision, phases.pulse)
                ahead = batches.enter_context(contextlib.closing(made))
            elif not isinstance(decision, Enter):
                raise AssertionError(decision)
            elif decision.part is JointPart.STEP:
                assert ahead, "steps have begun"
                with contextlib.suppress(BrokenContract):  # the root found the same
                    trainer.stepper.take_step(next(ahead))
                phases.pulse.step = int(decision.value)
            else:
                _take_part(trainer, team, decision)


def _batches(trainer: ShardedTrainer, begin: Begin, pulse: Pulse) -> Generator[Batch]:
    pulse.count_time()
    settled = replace(trainer.settled, micro_batch_tokens=begin.micro_batch_tokens)
    make = batch_maker(trainer.plan, settled, trainer.setup, trainer.team)
    return prefetch(make, begin.first_step, trainer.plan.steps.num, pulse)


def _take_part(trainer: ShardedTrainer, team: ShardedMember, decision: Enter) -> None:
    match decision.part:
        case JointPart.EVALUATE:
            trainer.evaluate(EvaluatedRows(decision.value))
        case JointPart.SAMPLE:
            list(trainer.samples(int(decision.value)))
        case JointPart.SAVE:
            trainer.snapshot().take()
        case JointPart.AUDIT:
            trainer.audit(Path(decision.value) if decision.value else None)
        case JointPart.COMPARE:
            team.compare_weights(int(decision.value))
        case JointPart.STEP:
            raise AssertionError(decision)
