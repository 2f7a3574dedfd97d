"""Wait for what is elsewhere: in bounds, by name, and again from where it stopped."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from headway.base.errors import ComeBack, Remedy
from headway.base.pulse import Pulse
from headway.base.units import seconds

T = TypeVar("T")
# RefusalMessage where to begin and whom to give what arrives; it runs in a thread of its own.
Work = Callable[[int, Callable[[T], None]], None]

_AHEAD = 16  # things that have arrived and were not asked for yet
_LOOK_S = 0.5  # a wait looks up this often, to show that it is one


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often something elsewhere is tried.

    Attributes:
        attempts: in a row that bring nothing new.
        stall_s: without anything new, after which an attempt has failed.
        first_wait_s: before the second attempt; doubled with each one that failed.
        longest_wait_s: who is asked to wait longer gives up.
        outlasts_stalls: False where a stalled attempt stands in the way of the next one.
    """

    attempts: int = 6
    stall_s: float = 30.0
    first_wait_s: float = 1.0
    longest_wait_s: float = 120.0
    outlasts_stalls: bool = True

    def wait_s(self, num_failed: int, asked_s: float | None) -> float | None:
        """How long to wait after so many failures in a row; None: not at all, give up.

        Args:
            num_failed: at least 1.
            asked_s: by the other side (Retry-After).
        """
        if num_failed >= self.attempts or (asked_s or 0) > self.longest_wait_s:
            return None
        return min(self.first_wait_s * 2 ** (num_failed - 1), self.longest_wait_s) + (asked_s or 0)


DEFAULT_RETRY = RetryPolicy()


class TransientError(Exception):
    """An attempt that may well succeed the next time.

    Args:
        why: in a few words, without any address.
        asked_s: how long the other side wants to be left alone.
    """

    def __init__(self, why: str, asked_s: float | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.asked_s = asked_s


class _StalledError(TransientError):
    pass


def retrying(
    work: Work[T],
    *,
    name: str,
    place: str,
    pulse: Pulse,
    begin: int = 0,
    length: Callable[[T], int] = lambda _: 1,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> Generator[T | None]:
    """What the work brings, each part once, however often the work has to begin anew.

    Args:
        work: begins where it is told; it raises `TransientError` for what may pass.
        name: of what is fetched.
        place: what every wait is called: a host.
        pulse: told of every wait that one might notice, several times a second.
        begin: where the work begins first.
        length: how far a part takes us on, in the unit of `begin`.
        retry: its bounds.

    Yields:
        Parts as they arrive; None before every wait.

    Raises:
        ComeBack: it failed too often in a row.
    """
    at, num_failed = begin, 0
    while True:
        attempt = _Attempt(work, at)
        try:
            for part in attempt.parts(place, pulse, retry.stall_s):
                if part is not None:
                    at, num_failed = at + length(part), 0
                yield part
            return
        except TransientError as failure:
            num_failed += 1
            wait_s = retry.wait_s(num_failed, failure.asked_s)
            stuck = isinstance(failure, _StalledError) and not retry.outlasts_stalls
            if wait_s is None or stuck:
                raise _given_up(name, place, failure, num_failed) from failure
            yield None
            turn = f"{num_failed + 1} of {retry.attempts}"
            why = f"{place}: {failure.why}"[:56]
            _pause(wait_s, f"{why}, trying again in {seconds(wait_s)} ({turn})", pulse)
        finally:
            attempt.given_up.set()


def retry_call(
    work: Callable[[], T], *, name: str, place: str, pulse: Pulse, retry: RetryPolicy
) -> T:
    """The one thing that some work gives, with the same retry.

    Raises:
        ComeBack: it failed too often in a row.
    """

    def give(_: int, put: Callable[[T], None]) -> None:
        put(work())

    parts = retrying(give, name=name, place=place, pulse=pulse, retry=retry)
    return next(part for part in parts if part is not None)


def _pause(wait_s: float, what: str, pulse: Pulse) -> None:
    end_s = time.monotonic() + wait_s
    with pulse.waiting(what):
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _LOOK_S))
            pulse.beat()


def _given_up(name: str, place: str, failure: TransientError, num_failed: int) -> ComeBack:
    times = f", {num_failed} times in a row" if num_failed > 1 else ""
    asked = f"; it asks to wait {seconds(failure.asked_s)}" if failure.asked_s else ""
    return ComeBack(
        f"{name} does not arrive: {failure.why}",
        have=f"{place}: {failure.why}{times}{asked}",
        need="an answer",
        remedies=(Remedy("the same command again", f"when {place} answers"),),
    )


class Abandoned(Exception):  # noqa: N818 - it says what became of an attempt
    """Nobody waits for what a work brings any more; it ends the work."""


@dataclass(frozen=True)
class _End:
    error: Exception | None


class _Attempt(Generic[T]):
    """One thread that does the work, until it ends or nobody waits for it any more.

    A call that never returns cannot be ended from outside: its thread is left behind, and what it
    brings late reaches nobody.
    """

    def __init__(self, work: Work[T], begin: int) -> None:
        self._arrived: Queue[T | _End] = Queue(_AHEAD)
        self.given_up = threading.Event()
        threading.Thread(target=self._run, args=(work, begin), daemon=True).start()

    def _run(self, work: Work[T], begin: int) -> None:
        error: Exception | None = None
        try:
            work(begin, self._put)
        except Abandoned:
            return
        except Exception as raised:
            error = raised
        with contextlib.suppress(Abandoned):
            self._put(_End(error))

    def _put(self, part: T | _End) -> None:
        while not self.given_up.is_set():
            with contextlib.suppress(Full):
                return self._arrived.put(part, timeout=_LOOK_S)
        raise Abandoned

    def parts(self, place: str, pulse: Pulse, stall_s: float) -> Iterator[T | None]:
        """What arrives; None before every wait.

        Raises:
            Exception: whatever the work raised.
        """
        while True:
            try:
                part = self._arrived.get_nowait()
            except Empty:
                yield None
                part = self._awaited(place, pulse, stall_s)
            if not isinstance(part, _End):
                yield part
            elif part.error:
                raise part.error
            else:
                return

    def _awaited(self, place: str, pulse: Pulse, stall_s: float) -> T | _End:
        end_s = time.monotonic() + stall_s
        with contextlib.suppress(Empty):
            # What flows has short waits all the time: they are nobody's news.
            return self._arrived.get(timeout=min(stall_s, _LOOK_S))
        with pulse.waiting(place):
            while (left_s := end_s - time.monotonic()) > 0:
                with contextlib.suppress(Empty):
                    return self._arrived.get(timeout=min(left_s, _LOOK_S))
                pulse.beat()
        raise _StalledError(f"nothing arrived for {seconds(stall_s)}")
