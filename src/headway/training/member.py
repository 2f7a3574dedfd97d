"""Member: a worker below the root, from setup to the root's last decision.

It holds the same model as the root, computes its own leaves of each step and takes the same
updates. It writes no event and no checkpoint: what it cannot do, it reports to the root.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

import torch
import transformers

from headway.base.errors import Exit, Refusal, RefusalMessage, message_of
from headway.base.process import Stop
from headway.base.pulse import Phase
from headway.data.batching.batches import prefetch
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.plan import Plan
from headway.runs.settled import Settled, load_settled
from headway.training.distributed.messages import Begin, Decision
from headway.training.distributed.place import TeamPlace
from headway.training.distributed.ranks import MemberTeam
from headway.training.distributed.team import StepDropped
from headway.training.failures import as_refusal
from headway.training.ledger import Totals
from headway.training.phases import Phases
from headway.training.setup import Setup, StartState, resume, set_up, take_moments
from headway.training.trainer import batch_maker, make_stepper
from headway.training.trials.settle import settle


def run_member(path: Path, place: TeamPlace, phases: Phases, stop: Stop) -> int:
    """Compute what the root asks for, until it says that there is no further step.

    Args:
        path: the run's folder, with plan.json.
        place: of this process among the workers.
        phases: current phase, shown in the pulse alone.
        stop: the stop request, which is reported to the root.

    Returns:
        The exit code.

    Raises:
        Refusal: it cannot start, or the root is gone.
    """
    plan = RunFolder(path).plan()
    assert plan is not None, "the root has read it"
    settled = load_settled(path, plan)
    plan = settled.locate_data(plan)
    torch.set_num_threads(plan.machine.threads)
    transformers.utils.logging.disable_progress_bar()
    with phases(Phase.LOADING_MODEL):
        setup = set_up(plan, settled, phases.pulse)
    assert place.links, "a member is not alone"
    first = place.links.hear()
    if not isinstance(first, Begin):
        return Exit.KEPT
    settled = load_settled(path, plan)  # the root's trials are done
    start = _start(setup, plan, first)
    settle(plan, settled, setup.rows, setup.order, setup.forward, phases)

    def refuse(error: Exception) -> RefusalMessage:
        return message_of(as_refusal(error, f"training (worker {place.rank})", plan, settled, path))

    parameters = list(setup.parameters.values())
    team = place.join(parameters, plan.steps.leaves, first, lambda: stop.by, refuse)
    _take_steps(team, first, plan, settled, setup, start, phases)
    return Exit.KEPT


def _start(setup: Setup, plan: Plan, begin: Begin) -> StartState:
    """Restore what the root restored."""
    if begin.checkpoint:
        path = Path(begin.checkpoint)
        step = plan.steps.first + begin.first_step - 1
        return resume(setup, plan, Checkpoint(path, step))
    parent = plan.model.parent
    if parent and parent.keeps_optimizer:
        return take_moments(setup, parent)[0]
    return StartState(Totals())


def _take_steps(
    team: MemberTeam,
    begin: Begin,
    plan: Plan,
    settled: Settled,
    setup: Setup,
    start: StartState,
    phases: Phases,
) -> None:
    """Take steps from where the root says, as often as it says so."""
    stepper = make_stepper(plan, setup, start, team, phases.pulse)
    decision: Decision = begin
    while isinstance(decision, Begin):
        settled = replace(settled, micro_batch_tokens=decision.micro_batch_tokens)
        make = batch_maker(plan, settled, setup, team)
        batches = prefetch(make, decision.first_step, plan.steps.num, phases.pulse)
        with phases(Phase.TRAINING), contextlib.closing(batches), contextlib.suppress(StepDropped):
            for batch in batches:
                try:
                    report = stepper.take_step(batch)
                except Exception as error:
                    # What was reported has been decided upon; a refusal after that the root raised
                    # too, from the same numbers.
                    if team.has_heard or isinstance(error, Refusal):
                        break
                    raise
                phases.pulse.step = report.step
            else:
                team.compare_weights(plan.steps.num)
        decision = team.next_decision()
