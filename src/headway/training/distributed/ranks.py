"""Ranks of a team: the root, which decides, and the members, which receive its decisions.

A step has two exchanges. After the first, all have written their sums: the root has seen every
report and no worker lacks gradients. After the second, all slices are added, and every rank reads
the same gradients and takes the same update. A worker that cannot compute its share reports that
instead, so nobody waits for it; the root then decides whether the step is taken again.
"""

import contextlib
import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from headway.base.errors import Finding, Refusal, RefusalMessage
from headway.base.host.peak_memory import peak_process_bytes
from headway.base.host.utilization import Spent
from headway.model.load import is_out_of_memory
from headway.runs.workers import WorkerTree
from headway.training.distributed.checks import (
    check_reports,
    layout_of,
    out_of_step,
    raise_problem,
)
from headway.training.distributed.links import DecidedOtherwise, Links
from headway.training.distributed.messages import (
    Apply,
    Ask,
    Begin,
    End,
    Evaluate,
    EvaluatedRows,
    LossSums,
    Problem,
    Start,
    Try,
    WorkerReport,
)
from headway.training.distributed.stragglers import Stragglers
from headway.training.distributed.sums import Sums
from headway.training.distributed.team import Share, StepDropped, Together, WorkerTotals

CHECKED_STEPS = 50  # between two comparisons of the weights of all workers
OnWait = Callable[[], None]


def _nothing() -> None:
    pass


class RootTeam:
    """Rank 0: collects the reports, checks them, decides.

    Args:
        tree: of the workers.
        links: to the ranks below.
        sums: adds gradients over workers.
        parameters: the trainable ones, which are the same in every worker.
        on_stop: called with who asked a worker to stop.

    Attributes:
        totals: of each worker, by rank.
    """

    def __init__(
        self,
        tree: WorkerTree,
        links: Links,
        sums: Sums,
        parameters: Sequence[nn.Parameter],
        on_stop: Callable[[str], None],
    ) -> None:
        self._tree, self._links, self._sums = tree, links, sums
        self._parameters = parameters
        self._on_stop = on_stop
        self._round = 0
        self._checked_at: int | None = None  # the step before which weights were compared last
        self._stragglers, self._findings = Stragglers(), list[Finding]()
        self.totals = [WorkerTotals(r, tree.group_of(r)) for r in range(tree.workers)]

    @property
    def shared_bytes(self) -> int:
        """Memory that all workers share."""
        return self._sums.num_bytes

    def own(self, num_leaves: int) -> range:
        """The leaves of a step that the root computes."""
        return self._tree.leaves_of(0, num_leaves)

    def start(self, settled: bytes, checkpoint: str) -> None:
        """Tell all how to compute and where to start; see `LedTeam`."""
        layout = layout_of(self._parameters)
        self._links.decide(Start(self._next_round(), settled, checkpoint, layout))

    def ask_to_try(self, micro_batch_tokens: int) -> None:
        """Tell all to run the largest micro-batch; `collect` says whether it fits."""
        self._links.decide(Try(self._next_round(), micro_batch_tokens))

    def ask_to_evaluate(
        self, rows: EvaluatedRows, micro_batch_tokens: int, *, steps_follow: bool
    ) -> None:
        """Tell all to evaluate their share of some rows; `collect` gives the losses."""
        asked = Evaluate(self._next_round(), rows, micro_batch_tokens, steps_follow)
        self._links.decide(asked)

    def begin(self, first_step: int, micro_batch_tokens: int) -> None:
        """Tell all to take steps; see `LedTeam`."""
        self._links.decide(Begin(self._next_round(), first_step, micro_batch_tokens))

    def collect(
        self, step: int, own: Sequence[LossSums], on_wait: OnWait = _nothing
    ) -> tuple[LossSums, ...]:
        """What all report of an evaluation or a trial, rank after rank; see `LedTeam`."""
        report = WorkerReport(0, step, evaluated=tuple(own))
        reports = self._gather((report,), on_wait)
        self._check(reports, step)
        self._links.decide(Apply(self._round))
        return tuple(itertools.chain.from_iterable(one.evaluated for one in reports))

    def end(self) -> None:
        """Tell all that there is nothing more to do; a worker that is gone needs no telling."""
        with contextlib.suppress(Refusal):
            self._links.decide(End())

    def add_up(self, share: Share, on_wait: OnWait) -> Together:
        """Add up what all workers computed; see `Team`."""
        own = _report(0, share, self._links.spent(), self._weights_if_due(share.step))
        self._sums.write(share.sums, share.num_leaves)
        reports = self._gather((own,), on_wait)
        self._check(reports, share.step)
        losses = tuple(itertools.chain.from_iterable(one.losses for one in reports))
        present = tuple(map(any, zip(*(r.with_gradient for r in reports if r.losses), strict=True)))
        self._links.decide(Apply(self._round, losses, present))

        def look() -> None:
            on_wait()
            self._links.check()

        self._sums.add(share.num_leaves, look)
        early = self._gather((), _nothing)
        raise_problem(early)  # of one that never added its slice
        if early:
            raise out_of_step(f"in step {share.step} reports were of", [r.step for r in early])
        self._links.decide(Apply(self._round))
        self._count(reports)
        self._watch_pace(reports, share.num_leaves)
        return Together(
            _as_tensor(losses),
            self._sums.read(present),
            np.array([row for one in reports for row in one.rows], dtype=np.int64),
            workers=len(reports),
            all_workers=self._tree.workers,
            groups=len({self._tree.group_of(one.rank) for one in reports}),
            all_groups=self._tree.groups,
        )

    def take_findings(self) -> list[Finding]:
        """What was noticed about workers since the last call."""
        findings, self._findings = self._findings, []
        return findings

    def _watch_pace(self, reports: Sequence[WorkerReport], num_leaves: int) -> None:
        nums = {one.rank: len(self._tree.leaves_of(one.rank, num_leaves)) for one in reports}
        leaf_s = {r.rank: r.computing_s / nums[r.rank] for r in reports if nums[r.rank]}
        self._findings += self._stragglers.add(leaf_s)

    def give_up(self, step: int, error: Exception) -> None:
        """Nothing yet: whatever the root decides next ends the step for all."""

    def compare_weights(self, step: int) -> None:
        """Compare the weights of all workers after the last step; members do the same.

        Raises:
            BrokenContract: they differ.
        """
        own = WorkerReport(0, step, weights=checksum(self._parameters), spent=self._links.spent())
        reports = self._gather((own,), _nothing)
        self._check(reports, step)
        self._links.decide(Apply(self._round))
        self._count(reports)

    def _next_round(self) -> int:
        """The number of the exchange after a decision, which counts as one itself."""
        self._round += 1
        return self._round + 1

    def _gather(self, own: tuple[WorkerReport, ...], on_wait: OnWait) -> tuple[WorkerReport, ...]:
        self._round += 1
        return self._links.gather(self._round, own, on_wait)

    def _weights_if_due(self, step: int) -> int | None:
        due = self._checked_at is None or step % CHECKED_STEPS == 0
        self._checked_at = step if due else self._checked_at
        return checksum(self._parameters) if due else None

    def _check(self, reports: Sequence[WorkerReport], step: int) -> None:
        """Check that all are there, in this step, with a share and with the same weights.

        Raises:
            Refusal: they are not.
        """
        for one in filter(None, (report.stop for report in reports)):
            self._on_stop(one)
        check_reports(reports, self._tree.workers, step)

    def _count(self, reports: Sequence[WorkerReport]) -> None:
        self.totals = [
            WorkerTotals(
                before.rank,
                before.group,
                before.rows + len(report.rows),
                max(before.peak_memory, report.peak_memory),
                report.spent,
            )
            for before, report in zip(self.totals, reports, strict=True)
        ]


class MemberTeam:
    """Any other rank: computes its share and receives the root's decisions.

    Args:
        tree: of the workers.
        rank: of this one.
        links: to its parent, and to the ranks below.
        sums: adds gradients over workers.
        parameters: the trainable ones.
        start: the root's decision to start.
        asked_to_stop: returns who asked this process to stop; "" if nobody did.
        refuse: turns an error into what is reported to the root.
    """

    def __init__(
        self,
        tree: WorkerTree,
        rank: int,
        links: Links,
        sums: Sums,
        parameters: Sequence[nn.Parameter],
        start: Start,
        asked_to_stop: Callable[[], str],
        refuse: Callable[[Exception], RefusalMessage],
    ) -> None:
        self.rank = rank
        self._tree, self._links, self._sums = tree, links, sums
        self._parameters = parameters
        self._round = start.round - 1
        self._next: Ask | None = None
        self._has_reported = False
        self._asked_to_stop, self._refuse = asked_to_stop, refuse

    @property
    def has_heard(self) -> bool:
        """Whether the root has decided what comes next."""
        return self._next is not None

    def own(self, num_leaves: int) -> range:
        """The leaves of a step that this worker computes."""
        return self._tree.leaves_of(self.rank, num_leaves)

    def next_decision(self) -> Ask:
        """What to do once no step is under way."""
        while self._next is None:
            decision = self._links.hear()
            if not isinstance(decision, Apply):
                self._next = decision
        decision, self._next = self._next, None
        if not isinstance(decision, End):
            self._round = decision.round - 1
        return decision

    def postpone(self, decision: Ask) -> None:
        """Leave a decision that was heard to the next call of `next_decision`."""
        self._next = decision

    def report(self, step: int, evaluated: Sequence[LossSums] = ()) -> None:
        """Report an evaluation or a trial, and hear that all have.

        Raises:
            StepDropped: the root decided otherwise.
        """
        stop = self._asked_to_stop()
        own = WorkerReport(self.rank, step, evaluated=tuple(evaluated), stop=stop)
        self._exchange((own,), _nothing)

    def leave_if_decided(self) -> None:
        """Leave what is being evaluated if the root does not wait for it any more.

        Raises:
            StepDropped: it does not.
        """
        try:
            self._links.leave_if_decided()
        except DecidedOtherwise:
            raise StepDropped from None

    def add_up(self, share: Share, on_wait: OnWait) -> Together:
        """Add up what all workers computed; see `Team`."""
        self._sums.write(share.sums, share.num_leaves)
        weights = checksum(self._parameters) if self._is_check_due(share.step) else None
        own = _report(self.rank, share, self._links.spent(), weights, self._asked_to_stop())
        agreed = self._exchange((own,), on_wait)

        def look() -> None:
            on_wait()
            self._links.check()
            self.leave_if_decided()

        self._sums.add(share.num_leaves, look)
        self._exchange((), on_wait)
        gradients = self._sums.read(agreed.with_gradient)
        return Together(_as_tensor(agreed.losses), gradients, share.rows_R)

    def give_up(self, step: int, error: Exception) -> None:
        """Report that this worker has no share in a step, and why."""
        if isinstance(error, StepDropped):
            return
        refused = None if is_out_of_memory(error) else self._refuse(error)
        stop = self._asked_to_stop()
        own = WorkerReport(self.rank, step, stop=stop, problem=Problem(refused))
        try:
            self._exchange((own,), _nothing)
        except StepDropped:
            return
        raise out_of_step("the root continued without the share of", [self.rank])

    def compare_weights(self, step: int) -> None:
        """Take part in the comparison of all workers' weights after the last step."""
        spent = self._links.spent()
        own = WorkerReport(self.rank, step, weights=checksum(self._parameters), spent=spent)
        self._exchange((own,), _nothing)

    def _exchange(self, reports: tuple[WorkerReport, ...], on_wait: OnWait) -> Apply:
        """Report, and learn that the step continues.

        Raises:
            StepDropped: it does not.
        """
        self._round += 1
        with contextlib.suppress(DecidedOtherwise):
            self._links.gather(self._round, reports, on_wait)
        decision = self._links.hear(on_wait)
        if isinstance(decision, Apply):
            return decision
        self._next = decision
        raise StepDropped

    def _is_check_due(self, step: int) -> bool:
        due = not self._has_reported or step % CHECKED_STEPS == 0
        self._has_reported = True
        return due


def checksum(parameters: Sequence[nn.Parameter]) -> int:
    """A sum over the bits of all weights, modulo 2**64: any single changed bit changes it."""
    total = 0
    with torch.no_grad():
        for number, parameter in enumerate(parameters, 1):
            words = parameter.detach().reshape(-1).view(torch.int32)
            total += number * int(words.sum(dtype=torch.int64))
    return total & ((1 << 64) - 1)


def _report(
    rank: int, share: Share, spent: Spent, weights: int | None, stop: str = ""
) -> WorkerReport:
    sums = tuple(share.sums.values())
    present = tuple(any(g is not None for g in leaves) for leaves in zip(*sums, strict=True))
    return WorkerReport(
        rank=rank,
        step=share.step,
        losses=tuple(share.losses_K.tolist()),
        rows=tuple(share.rows_R.tolist()),
        with_gradient=present,
        order=share.order,
        computing_s=share.seconds,
        spent=spent,
        peak_memory=peak_process_bytes(),
        weights=weights,
        stop=stop,
    )


def _as_tensor(losses: Sequence[float]) -> Tensor:
    return torch.tensor(losses, dtype=torch.float32)
