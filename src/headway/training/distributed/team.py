"""Team: the workers that take a step together, seen from one of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from headway.base.errors import Finding
from headway.base.host.utilization import Spent
from headway.data.order import Numbers
from headway.runs.workers import Node
from headway.training.distributed.messages import EvaluatedRows, LossSums

Gradients = list[Tensor | None]


class StepDropped(Exception):  # noqa: N818 - nothing went wrong
    """A stop was requested: the step was dropped before its update, or never started."""


@dataclass(frozen=True)
class Share:
    """What one worker computed of a step.

    Attributes:
        step: of the job.
        num_leaves: of the step, of all workers.
        losses_K: (K,) of its micro-batches.
        sums: gradients added up as far as its own leaves allow.
        rows_R: (R,) row numbers that its micro-batches held.
        order: checksum of the row numbers of the whole step, in order.
        seconds: that this took.
    """

    step: int
    num_leaves: int
    losses_K: Tensor
    sums: Mapping[Node, Gradients]
    rows_R: Numbers
    order: int
    seconds: float


@dataclass(frozen=True)
class Together:
    """What all workers computed of a step.

    Attributes:
        losses_K: (K,) of all micro-batches, leaf after leaf.
        gradients: of the step.
        rows_R: (R,) row numbers that the micro-batches held.
        workers: that took part.
        all_workers: of the team.
        groups: with a worker that took part.
        all_groups: of the team.
    """

    losses_K: Tensor
    gradients: Gradients
    rows_R: Numbers
    workers: int = 1
    all_workers: int = 1
    groups: int = 1
    all_groups: int = 1


class Team(Protocol):
    """The workers of a run, as one of them sees the others."""

    def own(self, num_leaves: int) -> range:
        """The leaves of a step that this worker computes."""
        ...

    def add_up(self, share: Share, on_wait: Callable[[], None]) -> Together:
        """Add up what all workers computed; called by all of them.

        Args:
            share: of this worker.
            on_wait: called while others are waited for; may end the wait with an exception.

        Raises:
            StepDropped: the step is not to be finished.
            Refusal: a worker cannot continue.
        """
        ...

    def give_up(self, step: int, error: Exception) -> None:
        """Tell the others that this worker has no share in a step."""
        ...


@dataclass(frozen=True)
class WorkerTotals:
    """What one worker did in the steps of an attempt."""

    rank: int
    group: int
    rows: int = 0  # counted each time they were trained
    peak_memory: int = 0  # bytes
    spent: Spent = Spent()  # noqa: RUF009 - frozen


class LedTeam(Team, Protocol):
    """A team as its root sees it: the root decides when steps are taken."""

    @property
    def totals(self) -> list[WorkerTotals]:
        """Of each worker, by rank; empty for a worker that is alone."""
        ...

    @property
    def shared_bytes(self) -> int:
        """Memory that all workers share."""
        ...

    def take_findings(self) -> list[Finding]:
        """What was noticed about workers since the last call."""
        ...

    def start(self, settled: bytes, checkpoint: str) -> None:
        """Tell all how to compute and where to start.

        Args:
            settled: JSON of `Settled`.
            checkpoint: folder of the checkpoint to start from; "" for the initial weights.
        """
        ...

    def ask_to_try(self, micro_batch_tokens: int) -> None:
        """Tell all to run the largest micro-batch; `collect` says whether it fits."""
        ...

    def ask_to_evaluate(
        self, rows: EvaluatedRows, micro_batch_tokens: int, *, steps_follow: bool
    ) -> None:
        """Tell all to evaluate their share of some rows; `collect` gives the losses.

        Args:
            rows: which ones.
            micro_batch_tokens: that they are cut into.
            steps_follow: all continue with the next step afterwards.
        """
        ...

    def collect(
        self, step: int, own: Sequence[LossSums], on_wait: Callable[[], None] = lambda: None
    ) -> tuple[LossSums, ...]:
        """What all report of an evaluation or a trial, in the order of micro-batches.

        Args:
            step: of the job that the weights are at.
            own: this worker's share.
            on_wait: called while others are waited for; may end the wait with an exception.

        Raises:
            Refusal: a worker cannot do its share, or is gone.
            OutOfMemoryError: a worker ran out of memory.
        """
        ...

    def begin(self, first_step: int, micro_batch_tokens: int) -> None:
        """Tell all to take steps from this one on, in micro-batches of at most this many tokens."""
        ...

    def end(self) -> None:
        """Tell all that there is nothing more to do."""
        ...

    def compare_weights(self, step: int) -> None:
        """Compare the weights of all workers after a step.

        Raises:
            BrokenContract: they differ.
        """
        ...


class Alone:
    """A single worker."""

    @property
    def totals(self) -> list[WorkerTotals]:
        """Nothing: the run's own totals say it all."""
        return []

    @property
    def shared_bytes(self) -> int:
        """Nothing."""
        return 0

    def own(self, num_leaves: int) -> range:
        """All leaves."""
        return range(num_leaves)

    def add_up(self, share: Share, on_wait: Callable[[], None]) -> Together:
        """The worker's own share: its leaves are one sum, since their number is a power of two."""
        del on_wait
        (gradients,) = share.sums.values()
        return Together(share.losses_K, gradients, share.rows_R)

    def take_findings(self) -> list[Finding]:
        """Nobody else is there."""
        return []

    def give_up(self, step: int, error: Exception) -> None:
        """Nobody else is there."""

    def start(self, settled: bytes, checkpoint: str) -> None:
        """Nobody else is there."""

    def ask_to_try(self, micro_batch_tokens: int) -> None:
        """Nobody else is there."""

    def ask_to_evaluate(
        self, rows: EvaluatedRows, micro_batch_tokens: int, *, steps_follow: bool
    ) -> None:
        """Nobody else is there."""

    def collect(
        self, step: int, own: Sequence[LossSums], on_wait: Callable[[], None] = lambda: None
    ) -> tuple[LossSums, ...]:
        """The worker's own share, which is all of it."""
        del step, on_wait
        return tuple(own)

    def begin(self, first_step: int, micro_batch_tokens: int) -> None:
        """Nobody else is there."""

    def end(self) -> None:
        """Nobody else is there."""

    def compare_weights(self, step: int) -> None:
        """Nobody else is there."""


ALONE = Alone()
