"""The keeper: starts a command, tells what happens to it, and ends it with the guard."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headway.base.process_id import is_alive
from headway.guard.command.keeper import Happened, Keeper, KeeperNews, Launch, is_job_control
from headway.guard.command.surroundings import Surroundings


def launch(*command: str) -> Launch:
    return Launch(command[0], command, (0, 1, 2), Surroundings.of_this_process())


def told(keeper: Keeper, num: int) -> list[KeeperNews]:
    found: list[KeeperNews] = []
    while len(found) < num:
        found += keeper.read()
    return found


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)],
)
def test_how_a_command_ends(script: str, code: int) -> None:
    keeper = Keeper(launch("/bin/sh", "-c", script))
    keeper.start()
    started, ended = told(keeper, 2)
    keeper.close()
    assert started.happened is Happened.STARTED
    assert (ended.happened, ended.value) == (Happened.ENDED, code)
    assert ended.peak_bytes > 0


def test_it_can_be_started_again() -> None:
    keeper = Keeper(launch("/bin/sh", "-c", "exit 1"))
    pids = set[int]()
    for _ in range(3):
        keeper.start()
        started, ended = told(keeper, 2)
        assert ended.value == 1
        pids.add(started.value)
    keeper.close()
    assert len(pids) == 3


def test_stops_and_continues_are_told() -> None:
    keeper = Keeper(launch("/bin/sleep", "60"))
    keeper.start()
    (started,) = told(keeper, 1)
    for number in (signal.SIGTSTP, signal.SIGCONT, signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL):
        os.killpg(started.value, number)
        time.sleep(0.05)
    news = told(keeper, 5)
    keeper.close()
    assert [(one.happened, one.value) for one in news] == [
        (Happened.STOPPED, signal.SIGTSTP),
        (Happened.CONTINUED, 0),
        (Happened.STOPPED, signal.SIGSTOP),
        (Happened.CONTINUED, 0),
        (Happened.ENDED, 137),
    ]
    assert is_job_control(news[0].value)
    assert not is_job_control(news[2].value), "somebody stopped it, not the shell"


def test_a_file_that_no_system_runs(tmp_path: Path) -> None:
    broken = tmp_path / "program"
    broken.write_bytes(b"#!/no/such/interpreter\n")
    broken.chmod(0o755)
    keeper = Keeper(launch(str(broken)))
    keeper.start()
    assert told(keeper, 1) == [KeeperNews(Happened.FAILED, errno.ENOENT)]
    keeper.close()


def test_a_script_without_a_first_line_is_read_by_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text("exit $1\n")
    script.chmod(0o755)
    keeper = Keeper(launch(str(script), "9"))
    keeper.start()
    assert told(keeper, 2)[1].value == 9
    keeper.close()


def test_a_killed_guard_takes_its_command_along(tmp_path: Path) -> None:
    script = (
        "import os, time\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    guard = subprocess.Popen(
        [sys.executable, "-m", "headway", "guard", "--", sys.executable, "-c", script],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.02)
    pid = int((tmp_path / "pid").read_text())
    guard.kill()
    guard.wait()
    until_s = time.monotonic() + 20
    while is_alive(pid) and time.monotonic() < until_s:
        time.sleep(0.02)
    assert not is_alive(pid)
