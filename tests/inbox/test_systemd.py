"""The unit is one that systemd accepts, and its watchdog is fed by progress alone."""

import configparser
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.inbox.jobs.test_inbox_job import JOB

from headway.base.errors import Exit
from headway.inbox import systemd
from headway.inbox.folder import InboxFolder
from headway.inbox.systemd import Watchdog, unit


class Unit(configparser.ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


@pytest.mark.parametrize("name", ["inbox", "in box", "50% $HOME"])
def test_systemd_accepts_it(tmp_path: Path, name: str) -> None:
    assert shutil.which("systemd-analyze"), "install the Debian package systemd"
    inbox = InboxFolder(tmp_path / name)
    inbox.make()
    file = tmp_path / "headway-inbox.service"
    file.write_text(unit(inbox, ["inbox", "start", str(inbox.path)], "root"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True
    )
    assert done.stderr == ""


def test_it_means_what_the_program_does(tmp_path: Path) -> None:
    text = unit(InboxFolder(tmp_path), ["inbox", "start", "/data/in box"], "me", "/bin/headway")
    found = Unit(interpolation=None, strict=True)
    found.read_string(text)
    service = found["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"] == '/bin/headway inbox start "/data/in box"'
    assert service["SuccessExitStatus"] == f"{int(Exit.COME_BACK)} {int(Exit.INTERRUPTED)}"
    assert service["RestartPreventExitStatus"] == f"{int(Exit.USAGE)} {int(Exit.DATA)}"
    assert service["ReadWritePaths"] == str(tmp_path)
    assert service["User"] == "me"


def test_the_watchdog_is_fed_by_progress_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"s": 0.0}
    sent: list[str] = []
    status = SimpleNamespace(attempt=1, phase="training", step=1, done=0, last_news_s=0.0)
    monkeypatch.setattr(systemd, "run_of", lambda *_: status)
    watchdog = Watchdog(InboxFolder(tmp_path), 100.0, lambda *lines: sent.extend(lines),
                        lambda: now["s"])  # fmt: skip

    def fed(after_s: float, *, idle: bool = False) -> bool:
        sent.clear()
        now["s"] += after_s
        watchdog.look(None if idle else JOB)
        return sent == ["WATCHDOG=1"]

    assert fed(10)
    assert not fed(10)  # the same step
    status.last_news_s = 5.0  # a wait that beats
    assert not fed(10)
    status.step = 2
    assert not fed(5)  # looked a moment ago
    assert fed(5)
    assert fed(10, idle=True)
    assert fed(10, idle=True)
    watchdog.ready()
    watchdog.stopping()
    assert sent[-1] == "STOPPING=1"


def test_nobody_is_told_where_nobody_waits(tmp_path: Path) -> None:
    sent: list[str] = []
    watchdog = Watchdog(InboxFolder(tmp_path), None, lambda *lines: sent.extend(lines))
    watchdog.look(None)
    assert sent == []
