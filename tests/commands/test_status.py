"""status, runs, logs and stop, as they are typed."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ui.fixtures import conversations_plan, step_done

from headway.base.errors import Cause, ComeBack
from headway.base.events import AttemptStarted, Ended, EventLog
from headway.base.host import contention
from headway.base.host.contention import OtherWork
from headway.base.lock import exclusive_lock
from headway.cli import run
from headway.commands import status
from headway.runs.watched.watched_run import WatchedRun


@pytest.fixture(autouse=True)
def live(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    return runtime


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "support-b"
    folder.mkdir(parents=True)
    conversations_plan().save(folder)
    return folder


def log(folder: Path, *, ended: bool, pid: int = 4242) -> None:
    events = EventLog(folder / "events.jsonl")
    events.write(AttemptStarted("support-b", "0.1.0", pid, 2488, ""))
    events.write(step_done(3, first=2488))
    if ended:
        events.write(Ended("finished", 0, "kept: 3 of 3 steps"))


def typed(folder: Path, *words: str) -> int:
    return run([*words, "--output-dir", str(folder.parent)])


def test_where_there_is_no_run_yet_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["runs", "--output-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"no runs in {tmp_path} yet; headway demo creates one\n"


def test_a_run_is_listed_and_its_status_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log(folder, ended=True)
    assert typed(folder, "runs") == 0
    assert "support-b" in capsys.readouterr().out
    assert typed(folder, "runs", "--json") == 0
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == ["finished"]
    assert typed(folder, "status", "support-b") == 0
    assert "finished" in capsys.readouterr().out
    assert typed(folder, "status", "--json") == 0
    assert json.loads(capsys.readouterr().out)["step"] == 3


def test_logs_are_lines_or_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(folder, ended=True)
    assert typed(folder, "logs") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert typed(folder, "logs", "--json") == 0
    out = capsys.readouterr().out
    assert out == (folder / "events.jsonl").read_text()
    assert typed(folder, "logs", "--follow") == 0  # nobody holds the lock: it has ended
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_log_that_is_gone_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--json"], ["--follow"]):
        assert typed(folder, "logs", *words) == 2
        told = capsys.readouterr().err
        assert told.startswith("support-b has no log")
        assert "headway status" in told


def test_an_unknown_run_is_a_mistake_of_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("status", "logs", "stop"):
        assert typed(folder, verb, "suport-b") == 2
        assert "support-b" in capsys.readouterr().err


def test_what_has_ended_is_not_stopped(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(folder, ended=True)
    assert typed(folder, "stop") == 0
    assert capsys.readouterr().out == "support-b is not running\n"


def test_the_status_of_a_live_run_names_other_work(
    folder: Path,
    owner: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log(folder, ended=False, pid=owner.pid)
    watched: list[tuple[int, ...]] = []

    def busy(pids: tuple[int, ...]) -> OtherWork:
        watched.append(pids)
        return OtherWork(0.2, 2, other_cores=1.9, busy=1.0, steal=0.0, throttled=0.0)

    monkeypatch.setattr(contention, "sample_other_work", busy)
    assert typed(folder, "status") == 0
    assert "slowed: other processes used 1.9 of 2 cores" in capsys.readouterr().out
    assert watched == [(owner.pid,)]


OWNER = """
import signal, sys
from pathlib import Path
from headway.base.lock import RunLock
signal.signal(15, lambda *_: sys.exit(0))
with RunLock(Path(sys.argv[1])):
    print(flush=True)
    signal.pause()
"""


@pytest.fixture
def owner(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", OWNER, folder / "run.lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_running_one_is_asked_to_save_and_waited_for(
    folder: Path, owner: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    log(folder, ended=False, pid=owner.pid)
    assert typed(folder, "stop") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"asked support-b (process {owner.pid}) to save and stop",
        "support-b has stopped · the same command starts it again",
    ]
    assert owner.wait() == 0


def test_a_program_that_is_only_watched_is_not_said_to_save(
    folder: Path, owner: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    log(folder, ended=False, pid=owner.pid)
    (folder / "plan.json").unlink()
    WatchedRun("support-b", "callback", "Trainer").save(folder)
    assert typed(folder, "stop") == 0
    asked = f"asked support-b (process {owner.pid}) to stop"
    assert capsys.readouterr().out.splitlines()[0] == asked


def test_a_process_that_only_has_the_number_is_not_stopped(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        log(folder, ended=False, pid=stranger.pid)
        old = {"pid": stranger.pid, "host": socket.gethostname(), "live": "", "started": 1}
        (folder / "run.lock").write_text(json.dumps(old))
        with exclusive_lock(folder / "run.lock", ComeBack("held", cause=Cause.LOCKED)):
            assert typed(folder, "stop") == 2
            assert "cannot tell which process" in capsys.readouterr().err
        assert typed(folder, "stop") == 0
        assert capsys.readouterr().out == "support-b is not running\n"
        assert stranger.poll() is None
        stranger.kill()


# ---- logs -n, status --watch -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "num"),
    [(["-n", "2"], 2), (["-n2"], 2), (["--lines", "0"], 0), (["-n", "99"], 3), (["-fn", "1"], 1)],
)
def test_only_the_last_lines_are_shown(
    folder: Path, words: list[str], num: int, capsys: pytest.CaptureFixture[str]
) -> None:
    log(folder, ended=True)
    assert typed(folder, "logs") == 0
    whole = capsys.readouterr().out.splitlines(keepends=True)
    assert typed(folder, "logs", *words) == 0
    assert capsys.readouterr().out == "".join(whole[len(whole) - num :])
    assert typed(folder, "logs", "--json", *words) == 0
    written = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    assert capsys.readouterr().out == "".join(written[len(written) - num :])


def test_what_follows_is_shown_whole(
    folder: Path, owner: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    log(folder, ended=False, pid=owner.pid)

    def then(_: float) -> None:
        log(folder, ended=True, pid=owner.pid)
        owner.kill()
        owner.wait()

    monkeypatch.setattr(status.time, "sleep", then)
    assert typed(folder, "logs", "-f", "-n", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 3
    assert "step 3" in lines[0]


@pytest.mark.parametrize("value", ["-1", "many", "1.5", "nan", ""])
def test_a_number_of_lines_is_a_whole_number(
    folder: Path, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log(folder, ended=True)
    assert typed(folder, "logs", f"--lines={value}") == 2
    assert capsys.readouterr().err.startswith("--lines")


def watch_until_it_ends(
    folder: Path, owner: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch, *words: str
) -> None:
    """`status --watch`, with a run that takes a step, does nothing for a second, and ends."""
    log(folder, ended=False, pid=owner.pid)
    events, naps = EventLog(folder / "events.jsonl"), list[float]()

    def then(nap_s: float) -> None:
        naps.append(nap_s)
        if len(naps) == 1:
            events.write(step_done(4, first=2488))
        if len(naps) == 3:
            events.write(Ended("finished", 0, "kept: 4 of 4 steps"))
            owner.kill()
            owner.wait()

    monkeypatch.setattr(status.time, "sleep", then)
    monkeypatch.setattr(contention, "sample_other_work", lambda _: None)
    assert typed(folder, "status", *words) == 0
    assert naps == [status.WATCH_S] * 3


def test_a_status_is_watched_until_the_run_ends(
    folder: Path, owner: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    watch_until_it_ends(folder, owner, monkeypatch, "--watch")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("/")[0] for line in lines[:2]] == ["step 3", "step 4"]
    assert "\x1b" not in "".join(lines)
    assert lines[-2].startswith("kept: 4 of 4 steps") or "kept: 4 of 4 steps" in "\n".join(lines)


def test_a_status_is_watched_in_place_on_a_terminal(
    folder: Path, owner: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    watch_until_it_ends(folder, owner, monkeypatch, "-w")
    out = capsys.readouterr().out
    first, *others = out.split("\x1b[J")
    num_lines = first.rpartition("\x1b[")[0].count("\n")
    assert first.endswith(f"\x1b[{num_lines}F")  # back over what was there, and nothing else
    assert "step 3" in first
    assert "kept: 4 of 4 steps" in others[-1]


def test_a_watched_status_is_an_object_per_line(
    folder: Path, owner: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    watch_until_it_ends(folder, owner, monkeypatch, "--watch", "--json")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["step"] for one in found] == [3, 4, 4, 4]
    assert [one["exit_code"] for one in found] == [None, None, None, 0]
