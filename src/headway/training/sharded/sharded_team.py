"""Team of a model in shards: whatever runs the model, all workers enter together.

The root says what comes next, and every worker does the same with its shards. Nobody leaves in the
middle. Where one fails the others wait for it in native code, until its process ends; so a worker
says what happened to it before it ends, and the root asks before it blames.
"""

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
from torch import Tensor, nn

from headway.base.errors import (
    BrokenContract,
    Cause,
    MachineError,
    Refusal,
    RefusalMessage,
    Remedy,
    message_of,
    refusal_from,
)
from headway.base.foreign.boundary import describe
from headway.model.load import is_out_of_memory
from headway.model.sharded import local
from headway.runs.workers import Node, WorkerTree
from headway.training.distributed.checks import differing, weights_differ
from headway.training.distributed.links import Links
from headway.training.distributed.messages import Enter, JointPart, Problem, Start, WorkerReport
from headway.training.distributed.ranks import MemberTeam, RootTeam
from headway.training.distributed.team import Team

_ANSWER_S = 5.0  # for the other workers to say what happened
_PASSING_ON_S = 1.0  # for those below to say it to one that passes it on


class ShardedTeam(Team, Protocol):
    """The workers that hold a model in shards, as one of them sees the others.

    Attributes:
        is_broken: a worker failed in the middle: nothing can be done together any more.
    """

    is_broken: bool

    @property
    def tree(self) -> WorkerTree:
        """Of the workers."""
        ...

    def leaves(self, num_leaves: int) -> range:
        """The leaves of a step that this worker computes."""
        ...

    def enter(self, part: JointPart, value: str = "") -> AbstractContextManager[None]:
        """Do a part of the work together with all workers.

        Args:
            part: what it is.
            value: what else the others need to know.

        Raises:
            Refusal: a worker could not continue.
        """
        ...


class ShardedRoot(RootTeam):
    """Rank 0; see `RootTeam`.

    Args:
        tree: of the workers.
        links: to the ranks below.
        parameters: the trainable ones.
        on_stop: called with who asked a worker to stop.
        stay: entered where a stop request must not end what is running.

    Attributes:
        tree: of the workers.
        is_broken: a worker failed in the middle: nothing can be done together any more.
    """

    def __init__(
        self,
        tree: WorkerTree,
        links: Links,
        parameters: Sequence[nn.Parameter],
        on_stop: Callable[[str], None],
        stay: Callable[[], AbstractContextManager[None]],
    ) -> None:
        super().__init__(tree, links, ReducedAlready(), LocalParts(parameters), on_stop)
        self.tree = tree
        self.is_broken = False
        self._stay = stay

    def own(self, num_leaves: int) -> range:
        """All leaves: a worker with fewer micro-batches runs others that count nothing."""
        return range(num_leaves)

    def leaves(self, num_leaves: int) -> range:
        """The leaves of a step that the root computes."""
        return self.tree.leaves_of(0, num_leaves)

    @contextlib.contextmanager
    def enter(self, part: JointPart, value: str = "") -> Generator[None]:
        """See `ShardedTeam`."""
        with self._stay():
            try:
                with asking_why(self._links):
                    self._links.decide(Enter(self._round + 1, part, value))
                    yield
            except BrokenContract:  # all found the same, in the same numbers
                raise
            except BaseException:
                self.is_broken = True
                raise

    def compare_weights(self, step: int) -> None:
        """Compare the shards of all groups; see `RootTeam`."""
        if self.tree.groups > 1:
            with self.enter(JointPart.COMPARE, str(step)):
                super().compare_weights(step)

    def _weights_if_due(self, step: int) -> int | None:
        return super()._weights_if_due(step) if self.tree.groups > 1 else None

    def _check(self, reports: Sequence[WorkerReport], step: int) -> None:
        super()._check([msgspec.structs.replace(one, weights=None) for one in reports], step)
        for ranks in zip(*map(self.tree.members, range(self.tree.groups)), strict=True):
            if odd := differing({rank: reports[rank].weights for rank in ranks}):
                raise weights_differ(step, odd)


class ShardedMember(MemberTeam):
    """Any other rank; see `MemberTeam`."""

    def __init__(
        self,
        tree: WorkerTree,
        rank: int,
        links: Links,
        parameters: Sequence[nn.Parameter],
        start: Start,
        asked_to_stop: Callable[[], str],
        refuse: Callable[[Exception], RefusalMessage],
    ) -> None:
        sums, parts = ReducedAlready(), LocalParts(parameters)
        super().__init__(tree, rank, links, sums, parts, start, asked_to_stop, refuse)
        self.tree = tree
        self.is_broken = False

    def own(self, num_leaves: int) -> range:
        """All leaves; see `ShardedRoot`."""
        return range(num_leaves)

    def leaves(self, num_leaves: int) -> range:
        """The leaves of a step that this worker computes."""
        return self.tree.leaves_of(self.rank, num_leaves)

    def enter(self, part: JointPart, value: str = "") -> AbstractContextManager[None]:
        """Nothing: the root has said it."""
        del part, value
        return contextlib.nullcontext()

    def give_up(self, step: int, error: Exception) -> None:
        """Nothing: what happened is reported before the process ends."""

    def _is_check_due(self, step: int) -> bool:
        return super()._is_check_due(step) and self.tree.groups > 1


class ReducedAlready:
    """Gradients that the backward passes have added over workers; `Sums`."""

    num_bytes = 0

    def __init__(self) -> None:
        self._gradients: list[Tensor | None] = []

    def write(self, sums: Mapping[Node, Sequence[Tensor | None]], num_leaves: int) -> None:
        """Take the sum over all leaves and workers."""
        del num_leaves
        (gradients,) = sums.values()
        self._gradients = list(gradients)

    def add(self, num_leaves: int, on_wait: Callable[[], None]) -> None:
        """Nothing is left to add."""

    def read(self, with_gradient: Sequence[bool]) -> list[Tensor | None]:
        """The sum."""
        del with_gradient
        gradients, self._gradients = self._gradients, []
        return gradients


class LocalParts(Sequence[nn.Parameter]):
    """The parts of parameters in shards that this worker holds."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._parameters = parameters

    def __getitem__(self, at: int) -> nn.Parameter:  # pyright: ignore[reportIncompatibleMethodOverride]
        return local(self._parameters[at].detach())  # pyright: ignore[reportReturnType] - its bits

    def __iter__(self) -> Iterator[nn.Parameter]:
        return map(self.__getitem__, range(len(self)))

    def __len__(self) -> int:
        return len(self._parameters)


# -- failures ------------------------------------------------------------------------------------


@contextlib.contextmanager
def asking_why(links: Links) -> Generator[None]:
    """Find out why a part of the work could not be done together.

    Raises:
        Refusal: of the worker that failed, if it could say so.
    """
    try:
        yield
    except Exception as error:
        is_own = isinstance(error, Refusal) and error.cause is not Cause.WORKER_LOST
        if is_own or is_out_of_memory(error):
            raise
        raise _reason(links.problems(_ANSWER_S), error) from error


@contextlib.contextmanager
def telling_why(
    links: Links, rank: int, refuse: Callable[[Exception], RefusalMessage]
) -> Generator[None]:
    """Tell the root why this worker cannot continue, before its process ends.

    Raises:
        MachineError: for anything that is no refusal.
    """
    try:
        yield
    except Exception as error:
        below: Sequence[WorkerReport] = ()
        is_lost = isinstance(error, Refusal) and error.cause is Cause.WORKER_LOST
        if is_lost or (isinstance(error, RuntimeError) and not is_out_of_memory(error)):
            below = links.problems(_PASSING_ON_S)
            problem = Problem(_lost(rank, error), is_effect=True)
        else:
            known = isinstance(error, Refusal)
            problem = Problem(message_of(error) if known else refuse(error))
        with contextlib.suppress(MachineError):
            links.tell((*below, WorkerReport(rank, step=0, problem=problem)))
        assert problem.refused
        raise refusal_from(problem.refused) from error


def _reason(problems: Sequence[WorkerReport], error: Exception) -> Exception:
    """The first problem that is not the effect of another; if there is none, what the root saw."""
    told = [one.problem for one in problems if one.problem and one.problem.refused]
    for problem in sorted(told, key=lambda problem: problem.is_effect):
        assert problem.refused
        return refusal_from(problem.refused)
    return error


def _lost(rank: int, error: Exception) -> RefusalMessage:
    return message_of(
        MachineError(
            f"worker {rank} lost the others in the middle of a computation",
            cause=Cause.WORKER_LOST,
            have=error.what if isinstance(error, Refusal) else describe(error),
            need="every worker, from the first step to the last",
            remedies=(
                Remedy("the same command again", "continues from the last checkpoint"),
                Remedy("headway doctor", "how much memory there is"),
            ),
        )
    )
