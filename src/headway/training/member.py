"""Member: a worker below the root, from setup to the root's last decision.

It holds the same model as the root, computes its own leaves of each step and takes the same
updates; it evaluates its own share of the rows that are evaluated. It writes no event and no
checkpoint: what it cannot do, it reports to the root.
"""

import contextlib
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import transformers

from headway.base.errors import (
    Cause,
    Exit,
    MachineError,
    Refusal,
    RefusalMessage,
    Remedy,
    message_of,
)
from headway.base.process import Stop
from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import prefetch
from headway.data.stream.stream_rows import StreamRows
from headway.model.kernels.reproducible import set_up_kernels
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.settled import Settled, load_settled
from headway.training.distributed.checks import check_layout
from headway.training.distributed.messages import Ask, Begin, End, Evaluate, Start, Try
from headway.training.distributed.place import TeamPlace
from headway.training.distributed.ranks import MemberTeam
from headway.training.distributed.team import StepDropped
from headway.training.evaluation.evaluate import Probes
from headway.training.failures import as_refusal
from headway.training.phases import Phases
from headway.training.setup import Setup, StartState, restore, set_up
from headway.training.trainer import batch_maker, make_stepper
from headway.training.trials.largest_batch import largest, run_largest
from headway.training.trials.settle import compute_as_settled

_ROWS_S = 60.0  # for files of the root to appear on a network's disk


def run_member(path: Path, place: TeamPlace, phases: Phases, stop: Stop) -> int:
    """Compute what the root asks for, until it says that there is nothing more to do.

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
    set_up_kernels(plan.machine.threads, plan.machine.device, deterministic=settled.deterministic)
    transformers.utils.logging.disable_progress_bar()
    if settled.reduction == "hsdp":
        from headway.training.sharded.sharded_member import run_sharded_member  # imports FSDP

        return run_sharded_member(path, plan, settled, place, phases, stop)
    with phases(Phase.LOADING_MODEL):
        setup = set_up(plan, settled, phases.pulse, reads=False)
    assert place.links, "a member is not alone"
    first = place.links.hear()
    if not isinstance(first, Start):
        return Exit.KEPT
    if isinstance(setup.rows, StreamRows):
        _await_rows(setup.rows, place.rank, phases.pulse)
    settled = msgspec.json.decode(first.settled, type=Settled)
    start = restore(setup, plan, first.checkpoint)
    finding = compute_as_settled(plan, settled, setup.rows, setup.order, setup.forward, phases)
    if finding:
        raise _computes_differently(place.rank, finding.have)

    def refuse(error: Exception) -> RefusalMessage:
        return message_of(as_refusal(error, f"training (worker {place.rank})", plan, settled, path))

    parameters = list(setup.parameters.values())
    check_layout(place.rank, parameters, first.layout)
    leaves, reduction = plan.steps.leaves, settled.reduction
    team = place.join(parameters, leaves, reduction, first, lambda: stop.by, refuse)
    try:
        _Computing(team, plan, settled, setup, start, phases).serve()
    finally:
        setup.end_reading()
    return Exit.KEPT


def _await_rows(rows: StreamRows, rank: int, pulse: Pulse) -> None:
    """Wait until the first rows of a stream are here, which the root has before it starts.

    Raises:
        MachineError: they do not come, as on a machine that does not share the root's cache.
    """
    until_s = time.monotonic() + _ROWS_S

    def check() -> None:
        pulse.beat()
        if time.monotonic() > until_s:
            raise MachineError(
                f"worker {rank} does not see the rows that the root reads",
                cause=Cause.CACHE_MISSING,
                have=f"no rows in {rows.folder} after {_ROWS_S:g} s",
                need="the folder of the cache that the root writes to, the same on all machines",
                remedies=(Remedy("the same command again", "with one XDG_CACHE_HOME for all"),),
            )

    with pulse.waiting("the first rows"):
        rows.await_first(check)


class _Computing:
    """A worker that is set up and does what the root asks for.

    Args:
        team: as this worker sees it.
        plan: of the run.
        settled: by the root.
        setup: restored as the root's.
        start: where the job starts.
        phases: current phase.
    """

    def __init__(
        self,
        team: MemberTeam,
        plan: Plan,
        settled: Settled,
        setup: Setup,
        start: StartState,
        phases: Phases,
    ) -> None:
        self._team, self._plan, self._settled, self._setup = team, plan, settled, setup
        self._phases = phases
        self._stepper = make_stepper(plan, setup, start, team, phases.pulse)
        self._step = start.totals.job_step
        self._probes: Probes | None = None  # once it is settled how large micro-batches are

    def serve(self) -> None:
        """Do what the root asks for, until it says that there is nothing more to do."""
        while not isinstance(asked := self._team.next_decision(), End):
            self._do(asked)

    def _do(self, asked: Ask) -> None:
        if isinstance(asked, Evaluate | Begin):
            self._settled = replace(self._settled, micro_batch_tokens=asked.micro_batch_tokens)
            self._probes = self._probes or self._make_probes()
        if isinstance(asked, Try):
            self._try(asked.micro_batch_tokens)
        elif isinstance(asked, Evaluate):
            self._evaluate(asked)
        elif isinstance(asked, Begin):
            self._take_steps(asked)

    def _make_probes(self) -> Probes:
        setup, own = self._setup, self._team.own
        return Probes(
            setup.rows, setup.order, setup.forward, self._plan, self._settled, self._phases, own
        )

    def _try(self, micro_batch_tokens: int) -> None:
        """Run the largest micro-batch while all others do."""
        setup = self._setup
        settled = replace(self._settled, micro_batch_tokens=micro_batch_tokens)
        with self._phases(Phase.TRYING_LARGEST_BATCH), contextlib.suppress(StepDropped):
            try:
                micro = largest(self._plan, settled, setup.rows, setup.order)
                run_largest(self._plan, setup.forward, micro)
            except Exception as error:
                self._team.give_up(0, error)
            else:
                self._team.report(0)

    def _evaluate(self, asked: Evaluate) -> bool:
        """Evaluate a share of some rows; returns whether steps follow."""
        assert self._probes, "made before"
        with self._probes.phase(asked.rows), contextlib.suppress(StepDropped):
            try:
                sums = self._probes.sums(asked.rows, self._team.leave_if_decided)
            except Exception as error:
                self._team.give_up(self._step, error)
            else:
                self._team.report(self._step, sums)
                return asked.steps_follow
        return False

    def _take_steps(self, begin: Begin) -> None:
        """Take steps from where the root says, until it decides otherwise."""
        make = batch_maker(self._plan, self._settled, self._setup, self._team)
        num, pulse = self._plan.steps.num, self._phases.pulse
        pulse.count_time()
        leave = self._team.leave_if_decided
        batches = prefetch(make, begin.first_step, num, pulse, on_wait=leave)
        with (
            self._phases(Phase.TRAINING),
            contextlib.closing(batches),
            contextlib.suppress(StepDropped),
        ):
            for batch in batches:
                try:
                    report = self._stepper.take_step(batch)
                except Exception as error:
                    # What was reported has been decided upon; a refusal after that the root raised
                    # too, from the same numbers.
                    if self._team.has_heard or isinstance(error, Refusal):
                        break
                    raise
                self._step = pulse.step = report.step
                if self._plan.is_evaluated_after(report.step) and not self._evaluate_between():
                    break
            else:
                self._team.compare_weights(num)

    def _evaluate_between(self) -> bool:
        """Evaluate after a step, as the plan says; returns whether another step follows."""
        asked = self._team.next_decision()
        if isinstance(asked, Evaluate) and asked.steps_follow:
            return self._evaluate(asked)
        self._team.postpone(asked)
        return False


def _computes_differently(rank: int, why: str) -> MachineError:
    return MachineError(
        f"worker {rank} cannot compile what the root compiled",
        cause=Cause.WEIGHTS_DIFFER,
        have=why,
        need="workers that all compute in the same way",
        remedies=(Remedy("--no-torch-compile", "all compute without it"),),
    )
