"""Retries with backoff, resuming at an offset, with named waits and stall timeouts."""

import contextlib
import random
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Generic, TypeVar

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, ComeBack, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import describe
from headway.base.pulse import Pulse
from headway.base.units import seconds

T = TypeVar("T")
# Called with the offset to start at and a function that takes each part; runs in its own thread.
Work = Callable[[int, Callable[[T], None]], None]

_QUEUE_SIZE = 16  # parts that have arrived and are not consumed yet
_POLL_S = 0.5  # how often a wait beats the pulse


@dataclass(frozen=True)
class RetryPolicy:
    """When to retry, and when to give up.

    Attributes:
        max_attempts: consecutive failed attempts before giving up.
        stall_timeout_s: an attempt fails when nothing arrives for this long.
        initial_backoff_s: before the second attempt; doubles with every failed attempt.
        max_backoff_s: upper limit; a server that asks for a longer wait ends the retries.
        retry_stalls: False where a stalled attempt blocks the next one.
        random: a number in [0, 1) for the jitter.
    """

    max_attempts: int = 6
    stall_timeout_s: float = 30.0
    initial_backoff_s: float = 1.0
    max_backoff_s: float = 120.0
    retry_stalls: bool = True
    random: Callable[[], float] = random.random

    def backoff_s(self, num_failed: int, retry_after_s: float | None) -> float | None:
        """The wait before the next attempt, or None to give up.

        Exponential backoff with equal jitter: half of it is fixed, half is random, so that many
        workers that failed together do not retry together.

        Args:
            num_failed: consecutive failed attempts, at least 1.
            retry_after_s: the wait that the server asked for (Retry-After).
        """
        asked_s = retry_after_s or 0.0
        if num_failed >= self.max_attempts or asked_s > self.max_backoff_s:
            return None
        longest_s = min(self.initial_backoff_s * 2 ** (num_failed - 1), self.max_backoff_s)
        return asked_s + longest_s * (1 + self.random()) / 2


DEFAULT_RETRY = RetryPolicy()


class TransientError(Exception):
    """A failed attempt that is worth repeating.

    Args:
        reason: a few words, without any address: it is shown on the screen.
        retry_after_s: the wait that the server asked for.
    """

    def __init__(self, reason: str, retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after_s = retry_after_s


class _StallError(TransientError):
    pass


def retrying(
    work: Work[T],
    *,
    name: str,
    host: str,
    pulse: Pulse,
    offset: int = 0,
    length: Callable[[T], int] = lambda _: 1,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> Generator[T]:
    """Yield each part exactly once, restarting the work where it failed.

    Args:
        work: produces parts from a given offset; raises `TransientError` to be retried.
        name: what is fetched, for messages.
        host: what every wait is called.
        pulse: shows each wait that is long enough to notice, and beats during it.
        offset: where the first attempt starts.
        length: how far a part advances the offset.
        retry: when to retry and when to give up.

    Yields:
        Parts as they arrive.

    Raises:
        ComeBack: too many attempts failed in a row.
        UsageError: the work raised anything else.
    """
    num_failed = 0
    while True:
        attempt = _Attempt(work, offset)
        try:
            while True:
                part = attempt.next_part(host, pulse, retry.stall_timeout_s)
                if isinstance(part, _End):
                    break
                offset, num_failed = offset + length(part), 0
                yield part
            if part.error is None:
                return
            raise _own_error(part.error, name, host)
        except TransientError as failure:
            num_failed += 1
            backoff_s = retry.backoff_s(num_failed, failure.retry_after_s)
            blocked = isinstance(failure, _StallError) and not retry.retry_stalls
            if backoff_s is None or blocked:
                raise _out_of_attempts(name, host, failure, num_failed) from failure
            count = f"{num_failed + 1} of {retry.max_attempts}"
            reason = f"{host}: {failure.reason}"[:56]
            _pause(backoff_s, f"{reason}, retrying in {seconds(backoff_s)} ({count})", pulse)
        finally:
            attempt.abandon()


def retry_call(
    work: Callable[[], T], *, name: str, host: str, pulse: Pulse, retry: RetryPolicy
) -> T:
    """Return the result of `work`, retrying it as `retrying` does.

    Raises:
        ComeBack: too many attempts failed in a row.
    """

    def put_result(_: int, put: Callable[[T], None]) -> None:
        put(work())

    return next(retrying(put_result, name=name, host=host, pulse=pulse, retry=retry))


def _pause(duration_s: float, what: str, pulse: Pulse) -> None:
    end_s = time.monotonic() + duration_s
    with pulse.waiting(what):
        while (left_s := end_s - time.monotonic()) > 0:
            time.sleep(min(left_s, _POLL_S))
            pulse.beat()


def _own_error(error: Exception, name: str, host: str) -> Exception:
    """An error of the client, as a refusal: an odd answer can make a client raise anything."""
    if isinstance(error, Refusal | TransientError):
        return error
    refusal = UsageError(
        f"cannot understand the answer to a request for {name}",
        cause=Cause.BAD_ANSWER,
        have=f"from {host}: {hide_credentials(describe(error))}",
        need="an answer that follows its protocol",
        remedies=(Remedy("run the same command again", f"when {host} answers as it should"),),
    )
    refusal.__cause__ = error
    return refusal


def _out_of_attempts(name: str, host: str, failure: TransientError, num_failed: int) -> ComeBack:
    times = f", {num_failed} times in a row" if num_failed > 1 else ""
    asked_s = failure.retry_after_s
    asked = f"; the server asks to wait {seconds(asked_s)}" if asked_s else ""
    return ComeBack(
        f"cannot fetch {name}: {failure.reason}",
        cause=Cause.NO_ANSWER,
        have=f"{host}: {failure.reason}{times}{asked}",
        need="a response",
        remedies=(Remedy("run the same command again", f"when {host} responds"),),
    )


class Abandoned(Exception):  # noqa: N818 - it says how an attempt ended
    """Ends the work of an attempt whose results nobody wants any more."""


@dataclass(frozen=True)
class _End:
    error: Exception | None


class _Attempt(Generic[T]):
    """A thread that does the work until it ends or is abandoned.

    A call that never returns cannot be stopped from outside: its thread is left behind, and its
    late results are dropped.
    """

    def __init__(self, work: Work[T], offset: int) -> None:
        self._arrived: Queue[T | _End] = Queue(_QUEUE_SIZE)
        self._abandoned = threading.Event()
        threading.Thread(target=self._run, args=(work, offset), daemon=True).start()

    def abandon(self) -> None:
        """End the thread the next time it delivers a part."""
        self._abandoned.set()

    def _run(self, work: Work[T], offset: int) -> None:
        error: Exception | None = None
        try:
            work(offset, self._put)
        except Abandoned:
            return
        except Exception as raised:
            error = raised
        with contextlib.suppress(Abandoned):
            self._put(_End(error))

    def _put(self, part: T | _End) -> None:
        while not self._abandoned.is_set():
            with contextlib.suppress(Full):
                return self._arrived.put(part, timeout=_POLL_S)
        raise Abandoned

    def next_part(self, host: str, pulse: Pulse, stall_timeout_s: float) -> T | _End:
        """The next part, or the end.

        Raises:
            TransientError: nothing arrived for `stall_timeout_s`.
        """
        end_s = time.monotonic() + stall_timeout_s
        with contextlib.suppress(Empty):
            # Short waits are normal while data flows: they are not worth showing.
            return self._arrived.get(timeout=min(stall_timeout_s, _POLL_S))
        with pulse.waiting(host):
            while (left_s := end_s - time.monotonic()) > 0:
                with contextlib.suppress(Empty):
                    return self._arrived.get(timeout=min(left_s, _POLL_S))
                pulse.beat()
        raise _StallError(f"no data for {seconds(stall_timeout_s)}")
