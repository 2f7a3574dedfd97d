"""The fork server: its children are what a new process would be, and end with it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from headway.base.errors import Cause
from headway.base.host.fork_server import ForkServer
from headway.base.process import ChildProcess

pytestmark = pytest.mark.skipif(not ForkServer.is_possible(), reason="needs pidfd")
MODULE = "forked"
SOURCE = """\
import atexit, os, sys, time
from headway.base.errors import Cause, UsageError
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.host.fork_server import is_server, leave, serve
from headway.base.process import Stop, report_refusal, send_answer

PRELOADED, NAME = [], "forked"

def main(arguments):
    end_with_parent()
    match arguments[0]:
        case "answer":
            send_answer({"pid": os.getpid(), "line": sys.stdin.readline(), "words": arguments,
                         "preloaded": PRELOADED, "module": NAME, "session": os.getsid(0),
                         "pulse": os.environ.get("HEADWAY_PULSE"),
                         "open": len(os.listdir("/proc/self/fd"))})
            PRELOADED.append("seen by nobody else")
            print("to the log")
        case "refuse":
            report_refusal(UsageError("no", cause=Cause.INVALID_VALUE, have="a", need="b"))
            return 2
        case "stop":
            with Stop().listening() as stop:
                while not stop.by:
                    time.sleep(0.01)
                return int(stop.code)
        case "fail":
            raise ZeroDivisionError
        case "sleep":
            time.sleep(600)
    return 0

if __name__ == "__main__":
    if is_server():
        NAME = serve(lambda: PRELOADED.append(os.getpid()))
    atexit.register(lambda: print("taken apart"))
    code = run_child(main, listens="stop" in sys.argv)
    sys.stdout.write("without an end")
    leave(code)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@pytest.fixture
def server(environment: dict[str, str], tmp_path: Path) -> Iterator[ForkServer]:
    server = ForkServer(MODULE, environment=environment, log=tmp_path / "server.log")
    yield server
    server.close()


Start = Callable[..., ChildProcess]


@pytest.fixture
def start(
    server: ForkServer, environment: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., ChildProcess]]:
    started: list[ChildProcess] = []

    def start(word: str, **other: Any) -> ChildProcess:
        options: dict[str, Any] = {
            "environment": environment,
            "log": tmp_path / f"{word}.log",
            "log_stdout": True,
            "stdin": subprocess.PIPE,
            "spawn": server.spawn,
        }
        started.append(ChildProcess(MODULE, [word], **(options | other)))
        return started[-1]

    yield start
    for one in started:
        one.end()


def answer_of(child: ChildProcess) -> dict[str, Any]:
    child.send(1)
    assert child.wait() == 0, child.last_words()
    answer = child.answer(dict[str, Any])
    assert answer is not None
    return answer


def test_a_child_has_what_was_imported_and_nothing_of_another_child(
    server: ForkServer, start: Start, tmp_path: Path
) -> None:
    found: list[dict[str, Any]] = []
    for number in range(3):
        one = start("answer", pulse=tmp_path / f"pulse-{number}")
        answer = answer_of(one)
        assert answer["line"] == "1\n"
        assert answer["words"] == ["answer"]
        assert answer["preloaded"] == [server.pid]
        assert answer["pid"] == answer["session"] == one.pid
        assert answer["pulse"] == str(tmp_path / f"pulse-{number}")
        # What was printed arrives, and nothing that is shared is taken apart.
        assert one.last_words() == ["to the log", "without an end"]
        found.append(answer)
    assert len({one["pid"] for one in found}) == 3
    assert len({one["open"] for one in found}) == 1  # descriptors do not pile up


def test_a_server_gives_other_modules_of_its_imports_too(
    environment: dict[str, str], tmp_path: Path
) -> None:
    server = ForkServer(
        MODULE, also=("elsewhere",), environment=environment, log=tmp_path / "server.log"
    )
    try:
        for module in (MODULE, "elsewhere"):
            child = ChildProcess(
                module,
                ["answer"],
                environment=environment,
                log=tmp_path / f"{module}.log",
                log_stdout=True,
                stdin=subprocess.PIPE,
                spawn=server.spawn,
            )
            answer = answer_of(child)
            child.end()
            assert (answer["module"], answer["preloaded"]) == (module, [server.pid])
            assert answer["words"] == ["answer"]
    finally:
        server.close()


def test_the_ways_to_end_are_those_of_any_process(start: Start) -> None:
    refused = start("refuse")
    assert refused.wait() == 2
    refusal = refused.last_refusal()
    assert refusal is not None
    assert refusal.findings[0].cause is Cause.INVALID_VALUE
    failed = start("fail")
    assert failed.wait() == 1
    assert "ZeroDivisionError" in failed.last_words()
    stopped = start("stop")  # blocked until it listens
    stopped.send_signal(signal.SIGTERM)
    assert stopped.wait() == 75
    killed = start("sleep")
    assert killed.is_running
    killed.end()
    assert killed.exit_code == -signal.SIGKILL
    killed.send_signal(signal.SIGTERM)  # whoever has its number now gets nothing


def test_children_end_with_their_server(server: ForkServer, start: Start) -> None:
    one = start("sleep")
    process = psutil.Process(one.pid)
    os.kill(server.pid, signal.SIGKILL)
    assert one.wait() == -signal.SIGKILL
    psutil.wait_procs([process], 10)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert answer_of(start("answer"))["preloaded"] == []  # as usual, without it


@pytest.mark.parametrize(
    "other",
    [{"environment": {}}, {"descriptors": (2,)}, {"log": None, "log_stdout": False}],
)
def test_what_it_cannot_give_is_started_as_usual(
    start: Start, tmp_path: Path, other: dict[str, Any]
) -> None:
    if "environment" in other:
        other = {"environment": {**os.environ, "PYTHONPATH": str(tmp_path), "ONE": "more"}}
    assert answer_of(start("answer", **other))["preloaded"] == []


def test_a_server_that_cannot_import_is_done_without(
    environment: dict[str, str], tmp_path: Path
) -> None:
    broken = SOURCE.replace("lambda: PRELOADED.append(os.getpid())", "lambda: 1 / 0")
    (tmp_path / f"{MODULE}.py").write_text(broken)
    server = ForkServer(MODULE, environment=environment, log=tmp_path / "server.log")
    one = ChildProcess(
        MODULE,
        ["answer"],
        environment=environment,
        log=tmp_path / "one.log",
        log_stdout=True,
        stdin=subprocess.PIPE,
        spawn=server.spawn,
    )
    assert answer_of(one)["preloaded"] == []
    assert not server.is_ready
    one.end()
    server.close()


def test_it_ends_when_nobody_needs_it(server: ForkServer) -> None:
    process = psutil.Process(server.pid)
    until = time.monotonic() + 60
    while not server.is_ready and time.monotonic() < until:
        time.sleep(0.01)
    assert server.is_ready
    server.close()
    assert not process.is_running()
