"""The service around the daemon: its lock, and how it ends."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from headway.base.errors import Cause, ComeBack, UsageError
from headway.base.lock import RunLock
from headway.inbox.folder import InboxFolder
from headway.inbox.notices import InboxNotice
from headway.inbox.options import SCHEMA, FirstModel, InboxOptions, InboxSettings
from headway.inbox.service import serve
from headway.inbox.training_process import Output

SETTINGS = InboxSettings(InboxOptions(idle_minutes=0.0), (), FirstModel(SCHEMA, ()))
SERVES = """
import sys
from pathlib import Path
from tests.inbox.test_service import *
sys.exit(serve(InboxFolder(Path(sys.argv[1])), SETTINGS, Output(), print))
"""


def test_f48_a_second_daemon_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    with RunLock(inbox.lock), pytest.raises(ComeBack, match="already served") as refusal:
        serve(inbox, SETTINGS, Output(), lambda _: None, once=True)
    assert refusal.value.cause is Cause.LOCKED
    assert refusal.value.have.startswith(f"process {os.getpid()} on ")
    assert not inbox.first_model.exists()


def test_an_empty_inbox_ends_at_once_if_asked_to(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    assert serve(inbox, SETTINGS, Output(), lambda _: None, once=True) == 0
    assert serve(inbox, SETTINGS, Output(), lambda _: None, once=True) == 0
    assert inbox.first_model.exists()


def test_the_last_command_is_waited_for(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    for name in ("a.txt", "b.txt"):
        (inbox.path / name).touch()
    options = InboxOptions(idle_minutes=0.0, after_file='sleep 0.3; echo "$HEADWAY_STATE" >> .told')
    notices: list[InboxNotice] = []
    code = serve(inbox, replace(SETTINGS, options=options), Output(), notices.append, once=True)
    assert code == 3
    assert (inbox.path / ".told").read_text().splitlines() == ["failed", "failed"]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (signal.SIGUSR1, 75)]
)
def test_a_signal_ends_it_with_its_code(tmp_path: Path, number: signal.Signals, code: int) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    words = [sys.executable, "-c", SERVES, str(inbox.path)]
    with subprocess.Popen(words, cwd=Path(__file__).parents[2]) as process:
        while not inbox.daemon.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait() == code


def test_what_was_said_is_in_a_log_too(tmp_path: Path) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    (inbox.path / "a.txt").touch()
    serve(inbox, SETTINGS, Output(), lambda _: None, once=True)
    (first, *rest) = (inbox.state / "inbox.log").read_text().splitlines()
    assert first.endswith("a.txt failed · moved to failed/a.txt")
    assert any(line.split()[1:2] == ["try"] for line in rest)


def test_room_on_a_gpu_that_is_not_there_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    inbox = InboxFolder(tmp_path / "inbox")
    for options in (InboxOptions(gpu_memory=1), InboxOptions(give_way=True)):
        with pytest.raises(UsageError) as refusal:
            serve(inbox, replace(SETTINGS, options=options), Output(), lambda _: None)
        assert refusal.value.cause is Cause.NO_DEVICE
    assert not inbox.path.exists()
