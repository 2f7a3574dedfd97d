"""Child processes and signals: start, restart, stop; a second signal leaves at once."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.base import process
from headway.base.errors import Cause, Exit, MachineError
from headway.base.process import (
    ChildProcess,
    Left,
    RestartPolicy,
    Stop,
    raise_now,
    report_refusal,
    send_answer,
)

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@pytest.fixture
def listening() -> Iterator[Stop]:
    """A `Stop` that hears this process's signals for as long as the test lasts."""
    with Stop().listening() as stop:
        yield stop


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in SIGNALS]


def test_the_handlers_of_before_are_back_whatever_happens() -> None:
    def fail() -> None:
        with Stop().listening():
            assert all(a is not b for a, b in zip(handlers(), before, strict=True))
            raise ZeroDivisionError

    ignored = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it
    try:
        before = handlers()
        with pytest.raises(ZeroDivisionError):
            fail()
        assert handlers() == before
    finally:
        signal.signal(signal.SIGHUP, ignored)


def test_listening_within_listening_gives_back_to_the_outer(listening: Stop) -> None:
    with Stop().listening() as inner:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (inner.by, listening.by) == ("SIGTERM", "")
    os.kill(os.getpid(), signal.SIGINT)
    assert listening.signal is signal.SIGINT


def test_in_another_thread_nothing_is_installed() -> None:
    seen: list[object] = []

    def elsewhere() -> None:
        with Stop().listening():
            seen.extend(handlers())

    before = handlers()
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == before


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_f04_in_a_library_a_second_signal_abandons_the_call(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    def call() -> None:
        with Stop().listening(raise_now):
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), number)
            pytest.fail("it went on")

    before = handlers()
    with pytest.raises(raised):
        call()
    assert handlers() == before


def test_a_second_signal_after_a_time_limit_leaves_at_once(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(process.os, "_exit", left.append)
    listening.ask("max_time", Exit.COME_BACK)
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == []
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == [Exit.COME_BACK]


def test_what_must_be_done_before_leaving_is_done_newest_first(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(process.os, "_exit", lambda _: done.append("left"))
    with (
        listening.before_leaving(lambda: done.append("outer")),
        listening.before_leaving(lambda: done.append("inner")),
    ):
        os.kill(os.getpid(), signal.SIGINT)
        assert done == []
        os.kill(os.getpid(), signal.SIGINT)
    assert done == ["inner", "outer", "left"]


def test_nobody_has_asked() -> None:
    stop = Stop()
    assert (stop.by, stop.since_s()) == ("", 0.0)


def test_the_first_request_counts() -> None:
    stop = Stop()
    stop.ask("max_time", Exit.COME_BACK)
    asked_s = stop.asked_s
    stop.ask("SIGINT", Exit.INTERRUPTED)
    assert (stop.by, stop.code, stop.asked_s) == ("max_time", Exit.COME_BACK, asked_s)
    assert 0 <= stop.since_s() < 60


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_a_signal_only_asks(listening: Stop, number: signal.Signals, code: int) -> None:
    os.kill(os.getpid(), number)
    assert (listening.by, listening.code) == (number.name, code)


def test_a_terminal_that_closes_asks_nothing(listening: Stop) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    assert listening.by == ""


def test_f04_a_second_signal_leaves_at_once(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[int] = []
    monkeypatch.setattr(process.os, "_exit", left.append)
    os.kill(os.getpid(), signal.SIGTERM)
    assert left == []
    os.kill(os.getpid(), signal.SIGINT)
    assert left == [Exit.INTERRUPTED]


def test_o03_where_nothing_has_to_be_finished_a_signal_leaves_in_the_middle(
    listening: Stop,
) -> None:
    done: list[str] = []

    def asked_in_the_middle() -> None:
        with listening.may_leave():
            done.append("begun")
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
            done.append("finished")

    with pytest.raises(Left):
        asked_in_the_middle()
    assert done == ["begun"]
    assert (listening.by, listening.code) == ("SIGTERM", Exit.COME_BACK)


def test_o03_who_was_asked_before_does_not_begin(listening: Stop) -> None:
    os.kill(os.getpid(), signal.SIGINT)
    with pytest.raises(Left), listening.may_leave():
        pytest.fail("it began")


@pytest.mark.parametrize("asked_before", [True, False])
def test_o03_what_may_run_for_a_while_is_left_in_the_middle_when_that_is_over(
    listening: Stop, asked_before: bool
) -> None:
    timer, handler = signal.getitimer(signal.ITIMER_REAL), signal.getsignal(signal.SIGALRM)

    def asked() -> None:
        if asked_before:
            os.kill(os.getpid(), signal.SIGTERM)
        with listening.may_leave(after_s=0.2):
            if not asked_before:
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    with pytest.raises(Left):
        asked()
    assert 0.2 <= listening.since_s() < 20
    assert signal.getsignal(signal.SIGALRM) is handler
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)


def test_what_ends_in_its_time_is_not_left(listening: Stop) -> None:
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    os.kill(os.getpid(), signal.SIGTERM)
    with listening.may_leave(after_s=60):
        assert signal.getsignal(signal.SIGALRM) is not handler
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 60
    assert signal.getsignal(signal.SIGALRM) is handler  # no alarm of its own is left behind
    assert (signal.getitimer(signal.ITIMER_REAL)[0] > 0) == (timer[0] > 0)


def test_after_what_may_be_left_a_signal_only_asks(listening: Stop) -> None:
    with listening.may_leave():
        pass
    with pytest.raises(ZeroDivisionError), listening.may_leave():
        1 / 0  # noqa: B018
    os.kill(os.getpid(), signal.SIGTERM)
    assert listening.by == "SIGTERM"


def test_a_signal_after_a_time_limit_still_lets_it_save(
    listening: Stop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process.os, "_exit", lambda _: pytest.fail("it left at once"))
    listening.ask("max_time", Exit.COME_BACK)
    os.kill(os.getpid(), signal.SIGTERM)
    assert listening.by == "max_time"


CHILD = """
import json, os, signal, sys
from headway.base.errors import Cause, MachineError, Remedy
from headway.base.process import (
    PULSE_VARIABLE, REPORT_VARIABLE, Stop, accept_stops, report_refusal, send_answer
)
print("pulse", os.environ.get(PULSE_VARIABLE), "session", os.getsid(0) == os.getpid(), flush=True)
print("to the log", file=sys.stderr, flush=True)
for line in sys.stdin:
    match json.loads(line):
        case "refuse":
            report_refusal(MachineError("no room", cause=Cause.DISK_FULL, remedies=(Remedy("df"),)))
            sys.exit(5)
        case "answer":
            send_answer(["x" * 1000] * 3000)
            sys.exit(0)
        case "half":
            os.write(int(os.environ[REPORT_VARIABLE]), b'{"answer": [1, 2')
            print("written", flush=True)
            signal.pause()
        case "start":
            import subprocess
            sys.exit(subprocess.call([sys.executable, "-c", "import random, queue"]))
        case "wait":
            accept_stops()
            print("waiting", flush=True)
            signal.pause()
        case "listen":
            with Stop().listening() as stop:
                print("listening", stop.by, flush=True)
        case "write":
            print("written", flush=True)
"""


@pytest.fixture
def child_of(tmp_path: Path) -> Iterator[Callable[..., ChildProcess]]:
    (tmp_path / "childmodule.py").write_text(CHILD)
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    started: list[ChildProcess] = []

    def start(**options: Any) -> ChildProcess:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = os.environ | {"PYTHONPATH": path}
        options = pipes | {"environment": environment, "log": tmp_path / "log"} | options
        started.append(ChildProcess("childmodule", **options))
        return started[-1]

    yield start
    for child in started:
        child.end()


def type_in(child: ChildProcess, word: str) -> None:
    child.send(word)


def hang_up(child: ChildProcess) -> None:
    assert child._process.stdin is not None
    child._process.stdin.close()


def test_a_child_has_its_pulse_its_session_and_its_log(
    child_of: Callable[..., ChildProcess], tmp_path: Path
) -> None:
    child = child_of(pulse=tmp_path / "pulse")
    assert child.stdout.readline().decode() == f"pulse {tmp_path / 'pulse'} session True\n"
    assert child.is_running
    type_in(child, "write")
    assert child.stdout.readline() == b"written\n"
    hang_up(child)
    assert child.wait() == 0
    assert not child.is_running
    assert child.last_words() == ["to the log"]
    assert child.last_refusal() is None


def test_what_is_sent_to_a_dead_child_fails_neither_now_nor_at_its_end(
    child_of: Callable[..., ChildProcess],
) -> None:
    """A broken pipe to a child raises nothing here: the child's exit code says what happened."""
    child = child_of()
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    for _ in range(3):
        child.send("write")
    pipe = child._process.stdin
    assert pipe is not None
    assert pipe.closed
    child.end()


def test_a_child_in_this_session_inherits_no_pulse(
    child_of: Callable[..., ChildProcess], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(process.PULSE_VARIABLE, "mine")
    child = child_of(own_session=False, environment=None)
    child.wait()  # it is no module of this process's path
    child = child_of(own_session=False)
    assert child.stdout.readline() == b"pulse None session False\n"


def test_output_may_go_to_the_log_too(child_of: Callable[..., ChildProcess]) -> None:
    child = child_of(log_stdout=True, stdin=subprocess.DEVNULL)
    assert child.wait() == 0
    assert child.last_words() == ["pulse None session True", "to the log"]


def test_a_refusal_arrives_where_no_file_can_be_written(
    child_of: Callable[..., ChildProcess],
) -> None:
    child = child_of()
    type_in(child, "refuse")
    assert child.wait() == 5
    message = child.last_refusal()
    assert message is not None
    assert (message.code, message.findings[0].what) == (5, "no room")
    assert message.findings[0].remedies[0].do == "df"


def test_an_answer_that_is_larger_than_a_pipe_arrives(
    child_of: Callable[..., ChildProcess],
) -> None:
    child = child_of()
    type_in(child, "answer")
    assert child.wait() == 0
    assert child.answer(list[str]) == ["x" * 1000] * 3000
    assert child.answer(int) is None
    assert child.last_refusal() is None


def test_half_an_answer_is_none(child_of: Callable[..., ChildProcess]) -> None:
    child = child_of()
    type_in(child, "half")
    while child.stdout.readline() != b"written\n":
        assert child.is_running
    child.end()
    assert child._received == b'{"answer": [1, 2'
    assert child.answer(list[str]) is None
    assert child.last_refusal() is None


def test_no_module_is_imported_from_the_working_folder(
    child_of: Callable[..., ChildProcess], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "childmodule.py").rename(elsewhere / "childmodule.py")
    for name in ("random", "queue", "torch", "msgspec", "runpy", "pkgutil", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(77)\n")
    for path in (f"{elsewhere}", f"{elsewhere}:", f":{elsewhere}::"):
        environment = os.environ | {"PYTHONPATH": f"{path}:{os.environ.get('PYTHONPATH', '')}"}
        child = child_of(environment=environment, stdin=subprocess.DEVNULL)
        assert child.wait() == 0, child.last_words()
        # neither do the processes that it starts
        child = child_of(environment=environment)
        type_in(child, "start")
        assert child.wait() == 0, child.last_words()


def test_started_by_hand_a_process_prints_its_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(process.REPORT_VARIABLE, raising=False)
    send_answer({"a": 1})
    assert capsys.readouterr().out == '{"a":1}\n'


def test_what_a_process_logged_is_shown_without_passwords(tmp_path: Path) -> None:
    child = ChildProcess("nothing:", log=tmp_path / "log")
    child.wait()
    (tmp_path / "log").write_text("ValueError: s3://user:canary@b/x\n")
    assert child.last_words() == ["ValueError: s3://b/x"]
    child.end()


def test_started_by_hand_a_process_says_its_refusal_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(process.REPORT_VARIABLE, raising=False)
    report_refusal(MachineError("no room", cause=Cause.DISK_FULL, have="0 free"))
    assert capsys.readouterr().err == "no room\n  have  0 free\n"


def test_a_signal_and_the_end_reach_it(child_of: Callable[..., ChildProcess]) -> None:
    child = child_of()
    type_in(child, "wait")
    while child.stdout.readline() != b"waiting\n":
        pass
    child.wait_up_to(0.01)
    assert child.is_running
    child.send_signal(signal.SIGTERM)
    child.wait_up_to(60.0)  # not so long: it ends
    assert not child.is_running
    assert child.wait() == -signal.SIGTERM
    child.send_signal(signal.SIGTERM)  # it is gone: nothing happens
    other = child_of()
    other.end()
    assert other.exit_code == -signal.SIGKILL
    other.end()


@pytest.mark.parametrize("number", Stop.CODES)
def test_a_stop_while_it_starts_is_taken_once_it_listens(
    child_of: Callable[..., ChildProcess], number: signal.Signals
) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child = child_of()
    child.send_signal(number)  # Python itself has not started yet
    assert child.stdout.readline().startswith(b"pulse ")
    type_in(child, "listen")
    assert child.stdout.readline().decode() == f"listening {number.name}\n"
    hang_up(child)
    assert child.wait() == 0
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_it_is_restarted_as_often_as_its_policy_allows_without_progress(
    child_of: Callable[..., ChildProcess],
) -> None:
    child = child_of(restarts=RestartPolicy(max_restarts=2))
    first = child.pid
    assert child.restart()
    assert child.restart()
    child.report_progress()
    assert child.restart()
    assert child.restart()
    assert child.is_running
    assert child.pid != first
    assert not child.restart()
    assert not child.is_running
    assert child.num_restarts == 4
    assert not child_of().restart()  # as it comes, never
