"""Links between workers: a socket to the parent and one to each child in the tree of workers.

The kernel tells at once when a worker's process is gone, and by which link. A wait is cut into
slices, in which the pulse beats.
"""

import contextlib
import errno
import select
import socket
import struct
import time
from collections.abc import Callable, Generator, Mapping

import msgspec

from headway.base.errors import Cause, MachineError, Remedy, message_of
from headway.base.host.utilization import Activity, Spent
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed.messages import (
    ANY_ROUND,
    Decision,
    Problem,
    Reports,
    WorkerReport,
)

_POLL_MS = 250
# What the kernel says of a connection whose other end is silent; a process that ends closes it.
_SILENCE = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}
_PIECE_BYTES = 1 << 16
_LENGTH = struct.Struct("<Q")
_to_bytes = msgspec.msgpack.encode
_reports_from = msgspec.msgpack.Decoder(Reports).decode
_decision_from = msgspec.msgpack.Decoder(Decision).decode


class DecidedOtherwise(Exception):  # noqa: N818 - nothing went wrong
    """The root did not wait for the reports of this exchange; its decision must be received."""


def _nothing() -> None:
    pass


class Links:
    """One rank's links.

    Args:
        tree: of the workers.
        rank: of this one.
        sockets: to the parent and to each child, by rank.
        pulse: names the rank that is waited for.
    """

    def __init__(
        self, tree: WorkerTree, rank: int, sockets: Mapping[int, socket.socket], pulse: Pulse
    ) -> None:
        parent = tree.parent_of(rank)
        self._children = {one: _Link(one, sockets[one]) for one in tree.children_of(rank)}
        self._parent = None if parent is None else _Link(parent, sockets[parent])
        self._pulse = pulse
        self._next: Decision | None = None  # heard while reports were waited for

    def gather(
        self,
        number: int,
        own: tuple[WorkerReport, ...],
        on_wait: Callable[[], None] = _nothing,
    ) -> tuple[WorkerReport, ...]:
        """Collect the reports of all ranks below; send them up with one's own.

        Args:
            number: of the exchange; reports of an earlier one are left out.
            own: this rank's report, or nothing.
            on_wait: called in each slice of a wait; may end it with an exception.

        Returns:
            All of them, sorted by rank.

        Raises:
            DecidedOtherwise: the parent decided before.
            MachineError: to the root, a worker that reports to it is gone. The root hears of the
                others in a report.
        """
        reports = list(own)
        for child in self._children.values():
            try:
                reports += self._reports_of(child, number, on_wait)
            except MachineError as error:
                if self._parent is None:
                    raise
                lost = Problem(message_of(error))
                reports.append(WorkerReport(child.rank, step=0, problem=lost))
        together = tuple(sorted(reports, key=lambda report: report.rank))
        if self._parent:
            self._parent.send(_to_bytes(Reports(number, together)))
        return together

    def _reports_of(
        self, child: "_Link", number: int, on_wait: Callable[[], None]
    ) -> tuple[WorkerReport, ...]:
        """The reports from below a child, in this exchange."""
        while True:
            self._wait_for(child, on_wait)
            found = _reports_from(child.take())
            if found.round in (number, ANY_ROUND):
                return found.reports

    def decide(self, decision: Decision) -> None:
        """Send the root's decision to all ranks.

        Raises:
            MachineError: a worker is gone; all others have been sent it.
        """
        message = _to_bytes(decision)
        gone: list[MachineError] = []
        for child in self._children.values():
            try:
                child.send(message)
            except MachineError as error:
                gone.append(error)
        if gone:
            raise gone[0]

    def hear(self, on_wait: Callable[[], None] = _nothing) -> Decision:
        """The root's next decision, passed on to the ranks below.

        Raises:
            MachineError: the parent is gone.
        """
        assert self._parent, "the root decides"
        if self._next is None:
            with self._waiting_for(self._parent):
                while not self._parent.is_ready(_POLL_MS):
                    self._pulse.beat()
                    on_wait()
            self._hear_parent()
        decision, self._next = self._next, None
        assert decision is not None, "just heard"
        return decision

    def check(self) -> None:
        """See without waiting that the parent and the children are there.

        To be called during a wait for anything but a message: gloo does not notice that a machine
        is gone.

        Raises:
            MachineError: one of them is gone.
        """
        for link in self._all():
            link.is_ready(0)

    def leave_if_decided(self) -> None:
        """Look for a decision without waiting.

        Raises:
            DecidedOtherwise: the root did not wait for what is being computed.
            MachineError: the parent is gone.
        """
        if self._parent and self._parent.is_ready(0):
            self._hear_parent()
            raise DecidedOtherwise

    def spent(self) -> Spent:
        """What this rank's time went to."""
        return self._pulse.spent()

    def tell(self, reports: tuple[WorkerReport, ...]) -> None:
        """Tell the rank above of problems, whatever exchange there is.

        Raises:
            MachineError: it is gone.
        """
        assert self._parent, "the root has nobody to tell"
        self._parent.send(_to_bytes(Reports(ANY_ROUND, reports)))

    def problems(self, limit_s: float) -> tuple[WorkerReport, ...]:
        """What the ranks below have to tell, or that they are gone.

        Args:
            limit_s: for all of them to answer.
        """
        until_s = time.monotonic() + limit_s
        found: list[WorkerReport] = []
        for child in self._children.values():
            try:
                told = self._problems_of(child, until_s)
            except MachineError as error:
                told = (WorkerReport(child.rank, step=0, problem=Problem(message_of(error))),)
            found += told
        return tuple(found)

    def _problems_of(self, child: "_Link", until_s: float) -> tuple[WorkerReport, ...]:
        while True:
            left_s = until_s - time.monotonic()
            if not child.is_ready(max(0, int(1000 * left_s))):
                return ()
            found = _reports_from(child.take())
            if found.round == ANY_ROUND:
                return found.reports

    def close(self) -> None:
        """Close all sockets: the other ranks see that this one is gone."""
        for link in self._all():
            link.close()

    @contextlib.contextmanager
    def _waiting_for(self, link: "_Link") -> Generator[None]:
        with self._pulse.activity(Activity.PEERS), self._pulse.waiting(f"worker {link.rank}"):
            yield

    def _all(self) -> list["_Link"]:
        return [*self._children.values(), *([self._parent] if self._parent else [])]

    def _hear_parent(self) -> None:
        assert self._parent
        self._next = decision = _decision_from(self._parent.take())
        with contextlib.suppress(MachineError):  # the root hears of it in the next exchange
            self.decide(decision)

    def _wait_for(self, child: "_Link", on_wait: Callable[[], None]) -> None:
        if child.is_ready(0):
            return
        with self._waiting_for(child):
            while not child.is_ready(_POLL_MS):
                if self._parent and self._parent.is_ready(0):
                    self._hear_parent()
                    raise DecidedOtherwise
                self.check()  # the child may be waiting for another one, which is gone
                self._pulse.beat()
                on_wait()


class _Link:
    """A socket that carries whole messages.

    Args:
        rank: at the other end.
        connection: a stream socket.
    """

    def __init__(self, rank: int, connection: socket.socket) -> None:
        self.rank = rank
        self._socket = connection
        self._received = bytearray()
        self._poll = select.poll()
        self._poll.register(connection, select.POLLIN)

    def send(self, message: bytes) -> None:
        try:
            self._socket.sendall(_LENGTH.pack(len(message)) + message)
        except OSError as error:
            raise worker_gone(self.rank, error) from error

    def close(self) -> None:
        self._socket.close()

    def is_ready(self, wait_ms: int) -> bool:
        """Whether a whole message is there, or comes within this time."""
        while not self._has_message():
            if not self._poll.poll(wait_ms):
                return False
            try:
                piece = self._socket.recv(_PIECE_BYTES)
            except OSError as error:
                raise worker_gone(self.rank, error) from error
            if not piece:
                raise worker_gone(self.rank)
            self._received += piece
        return True

    def take(self) -> bytes:
        """The next message; it is there."""
        end = _LENGTH.size + self._length()
        message = bytes(self._received[_LENGTH.size : end])
        del self._received[:end]
        return message

    def _has_message(self) -> bool:
        has_length = len(self._received) >= _LENGTH.size
        return has_length and len(self._received) >= _LENGTH.size + self._length()

    def _length(self) -> int:
        return int(_LENGTH.unpack_from(self._received)[0])


def worker_gone(rank: int, error: OSError | None = None) -> MachineError:
    """The refusal to continue without a worker.

    Args:
        rank: of the worker.
        error: of the connection to it; None if it was closed in order.
    """
    is_silent = error is not None and error.errno in _SILENCE
    silence = "its machine stopped answering: it is off, or the network is broken"
    return MachineError(
        f"worker {rank} is gone",
        cause=Cause.WORKER_LOST,
        have=silence if is_silent else "its process ended in the middle of a run",
        need="every worker, from the first step to the last",
        remedies=(
            Remedy("the same command again", "continues from the last checkpoint"),
            Remedy("headway doctor", "how much memory there is"),
        ),
    )
