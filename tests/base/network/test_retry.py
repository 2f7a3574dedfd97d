"""Each part arrives once, backoff is jittered, every long wait has a name."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator

import pytest

from headway.base.errors import Cause, ComeBack, UsageError
from headway.base.network import retry
from headway.base.network.retry import RetryPolicy, TransientError, retry_call, retrying
from headway.base.pulse import Pulse

NO_WAIT = RetryPolicy(max_attempts=3, initial_backoff_s=0.001, random=lambda: 0.0)


class WaitLog(Pulse):
    """A pulse that keeps the names of all waits."""

    def __init__(self) -> None:
        self.waits: list[str] = []
        super().__init__()

    @contextlib.contextmanager
    def waiting(self, what: str) -> Generator[None]:
        self.waits.append(what)
        with super().waiting(what):
            yield


def fetched(work: retry.Work[str], policy: RetryPolicy, pulse: Pulse | None = None) -> list[str]:
    parts = retrying(
        work, name="notes.txt", host="example.org", pulse=pulse or Pulse(), length=len, retry=policy
    )
    return list(parts)


def test_backoff_doubles_up_to_a_limit_and_adds_what_the_server_asked_for() -> None:
    policy = RetryPolicy(6, initial_backoff_s=1, max_backoff_s=10, random=lambda: 1.0)
    assert [policy.backoff_s(n, None) for n in range(1, 7)] == [1, 2, 4, 8, 10, None]
    assert policy.backoff_s(1, 7.0) == 8
    assert policy.backoff_s(1, 11.0) is None  # too long to wait: better come back


@pytest.mark.parametrize(("random", "backoff_s"), [(0.0, 4.0), (0.5, 6.0), (1.0, 8.0)])
def test_half_of_the_backoff_is_jitter(random: float, backoff_s: float) -> None:
    assert RetryPolicy(random=lambda: random).backoff_s(4, None) == backoff_s


def test_the_default_policy_draws_its_jitter() -> None:
    waits = {RetryPolicy().backoff_s(4, None) for _ in range(20)}
    assert len(waits) > 1
    assert all(wait_s is not None and 4 <= wait_s <= 8 for wait_s in waits)


def test_work_resumes_at_the_offset_and_no_part_is_repeated() -> None:
    text, offsets = "abcdef", []

    def work(offset: int, put: Callable[[str], None]) -> None:
        offsets.append(offset)
        put(text[offset : offset + 2])
        if offset + 2 < len(text):
            raise TransientError("the connection was cut")

    assert fetched(work, NO_WAIT) == ["ab", "cd", "ef"]
    assert offsets == [0, 2, 4]


def test_failures_count_only_in_a_row() -> None:
    failures = [TransientError("503")] * 2

    def work(offset: int, put: Callable[[str], None]) -> None:
        if failures:
            raise failures.pop()
        put("x")
        if offset < 4:
            failures.extend([TransientError("503")] * 2)
            raise failures.pop()

    assert fetched(work, NO_WAIT) == ["x"] * 5


def test_too_many_failures_in_a_row_are_refused_with_their_cause() -> None:
    pulse = WaitLog()

    def work(_offset: int, _put: Callable[[str], None]) -> None:
        raise TransientError("503 Service Unavailable")

    with pytest.raises(ComeBack, match=r"cannot fetch notes.txt: 503 Service") as refusal:
        fetched(work, NO_WAIT, pulse)
    assert refusal.value.cause is Cause.NO_ANSWER
    assert refusal.value.have == "example.org: 503 Service Unavailable, 3 times in a row"
    assert pulse.waits == [
        f"example.org: 503 Service Unavailable, retrying in 0.0 s ({n} of 3)" for n in (2, 3)
    ]


def test_a_server_that_asks_for_too_long_a_wait_ends_the_retries() -> None:
    def work() -> str:
        raise TransientError("429", retry_after_s=3600)

    with pytest.raises(ComeBack) as refusal:
        retry_call(work, name="a", host="b", pulse=Pulse(), retry=RetryPolicy())
    assert refusal.value.have == "b: 429; the server asks to wait 1 h"


@pytest.mark.parametrize(("retry_stalls", "num_attempts"), [(True, 3), (False, 1)])
def test_a_stall_is_a_failed_attempt(
    monkeypatch: pytest.MonkeyPatch, retry_stalls: bool, num_attempts: int
) -> None:
    monkeypatch.setattr(retry, "_POLL_S", 0.01)
    release, started = threading.Event(), []
    policy = RetryPolicy(3, 0.03, 0.001, retry_stalls=retry_stalls)

    def work(_offset: int, _put: Callable[[str], None]) -> None:
        started.append(time.monotonic())
        release.wait()

    pulse = WaitLog()
    with pytest.raises(ComeBack, match=r"no data for 0\.0 s"):
        fetched(work, policy, pulse)
    release.set()
    assert len(started) == num_attempts
    assert pulse.waits.count("example.org") == num_attempts


def test_any_other_error_is_an_answer_that_is_not_understood() -> None:
    def work() -> str:
        raise KeyError("ETag")

    with pytest.raises(
        UsageError, match="cannot understand the answer to a request for a"
    ) as caught:
        retry_call(work, name="a", host="b", pulse=Pulse(), retry=NO_WAIT)
    assert caught.value.cause == Cause.BAD_ANSWER
    assert caught.value.have == "from b: KeyError: 'ETag'"
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_abandoned_attempt_ends_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "_POLL_S", 0.01)
    ended = threading.Event()

    def work(_offset: int, put: Callable[[str], None]) -> None:
        try:
            while True:
                put("x")
        finally:
            ended.set()

    parts = retrying(work, name="a", host="b", pulse=Pulse(), length=len, retry=NO_WAIT)
    assert next(parts) == "x"
    parts.close()
    assert ended.wait(5)
