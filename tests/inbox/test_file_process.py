"""The process of a file: how long it is there, how it ended, and what it may write to."""

import os
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.inbox.test_training_process import REQUEST

from headway.base.process import Stop
from headway.inbox import file_process
from headway.inbox.file_process import FileProcess, writable_environment
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.outcomes import TrainingEnd
from headway.inbox.options import SCHEMA, FirstModel
from headway.inbox.training_process import FileRequest, Output

# Stands in for the process that trains: what a file is called says what becomes of it.
TRAINER = """\
import json, os, signal, sys, time
answers = int(sys.argv[1])
with open("started", "a") as log:
    print(os.getpid(), len(sys.argv) - 2, file=log, flush=True)
for line in sys.stdin:
    name = json.loads(line)["name"]
    if name == "dies":
        os.kill(os.getpid(), 11)
    if name == "waits":
        signal.sigwait({signal.SIGTERM})  # it was started with this signal blocked
        os.write(answers, b'{"end": {"code": 75}}\\n')
        continue
    if name == "measures":
        os.write(answers, b'{"end": {"code": 0, "is_measuring": true}}\\n')
        if json.loads(sys.stdin.readline())["name"] == "dies":
            os.kill(os.getpid(), 11)
        os.write(answers, b'{}\\n')
    if name == "talks":
        print("x" * 3_000_000, file=sys.stderr)
    os.write(answers, b'{"end": {"code": 0}}\\n')
"""


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InboxFolder:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "stand_in"
    package.mkdir()
    (package / "trainer_stand_in.py").write_text(TRAINER)
    monkeypatch.setenv("PYTHONPATH", str(package))
    monkeypatch.setattr(file_process, "_MODULE", "trainer_stand_in")
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    return inbox


@pytest.fixture
def process(inbox: InboxFolder) -> Iterator[FileProcess]:
    process = FileProcess(inbox, FirstModel(SCHEMA, ()), Output(), Stop(), idle_s=60.0)
    yield process
    process.close()


def ended(process: FileProcess) -> TrainingEnd:
    while (end := process.end()) is None:
        time.sleep(0.01)
    return end


def request(name: str) -> FileRequest:
    return replace(REQUEST, name=name)


def started() -> list[list[int]]:
    """Number and arguments of each process."""
    file = Path("started")
    lines = file.read_text().splitlines() if file.exists() else []
    return [list(map(int, line.split())) for line in lines]


def test_one_process_trains_file_after_file(process: FileProcess) -> None:
    process.look(0.0)
    assert process.is_loaded  # before there is a file
    for number in range(3):
        assert process.answers == ()
        process.start(request("a.jsonl"))
        process.look(1000.0 * number)  # at work, it is not idle
        assert select.select(process.answers, [], [], 60.0)[0]  # its end wakes the daemon
        assert ended(process) == TrainingEnd(0)
        process.look(1000.0 * number)
    assert [words for _, words in started()] == [2]  # it was told to import ahead


def test_a_process_that_died_is_replaced(process: FileProcess) -> None:
    process.start(request("dies"))
    assert select.select(process.answers, [], [], 60.0)[0]
    assert ended(process) == TrainingEnd(-signal.SIGSEGV)
    assert not process.is_loaded
    process.start(request("a.jsonl"))
    assert ended(process) == TrainingEnd(0)
    os.kill(started()[-1][0], signal.SIGKILL)  # while it has nothing to do
    until = time.monotonic() + 60
    while Path(f"/proc/{started()[-1][0]}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < until
    process.start(request("a.jsonl"))
    assert ended(process) == TrainingEnd(0)
    assert len(started()) == 3


def test_what_is_measured_beside_keeps_the_process_and_has_an_answer(
    process: FileProcess,
) -> None:
    process.start(request("measures"))
    assert ended(process) == TrainingEnd(0, is_measuring=True)
    process.look(0.0)
    process.look(1000.0)  # it is not idle
    assert process.is_measuring
    process.start(request("a.jsonl"))
    assert process.is_measuring  # whatever is read about the next file
    assert select.select(process.answers, [], [], 60.0)[0]
    assert ended(process) == TrainingEnd(0)
    assert not process.is_measuring
    assert len(started()) == 1


def test_a_process_that_died_measures_nothing(process: FileProcess) -> None:
    process.start(request("measures"))
    assert ended(process) == TrainingEnd(0, is_measuring=True)
    os.kill(started()[-1][0], signal.SIGKILL)
    assert select.select(process.answers, [], [], 60.0)[0]
    while process.is_measuring:
        time.sleep(0.01)
    assert not process.is_loaded


def test_one_that_was_asked_to_stop_gets_no_other_file(process: FileProcess) -> None:
    process.start(request("waits"))
    while not started():
        time.sleep(0.01)
    process.ask_to_stop()
    assert ended(process) == TrainingEnd(75)
    assert not process.is_loaded


def test_one_that_wrote_much_is_replaced(process: FileProcess, inbox: InboxFolder) -> None:
    process.start(request("talks"))
    assert ended(process) == TrainingEnd(0)
    process.start(request("a.jsonl"))
    assert ended(process) == TrainingEnd(0)
    assert len(started()) == 2
    assert (inbox.state / "training.err").stat().st_size == 0


def test_memory_is_given_back_after_a_while_without_files(process: FileProcess) -> None:
    process.start(request("a.jsonl"))
    ended(process)
    process.look(100.0)
    process.look(159.9)
    assert process.is_loaded
    process.look(160.0)
    assert not process.is_loaded
    process.look(5000.0)  # and not taken again without a file
    assert not process.is_loaded
    process.start(request("a.jsonl"))
    ended(process)
    process.look(5001.0)
    assert process.is_loaded


def test_without_idle_minutes_nothing_is_kept_and_nothing_imported_ahead(
    inbox: InboxFolder,
) -> None:
    process = FileProcess(inbox, FirstModel(SCHEMA, ()), Output(), Stop(), idle_s=0.0)
    process.look(0.0)
    assert not process.is_loaded
    process.start(request("a.jsonl"))
    ended(process)
    process.look(1.0)
    assert not process.is_loaded
    assert [words for _, words in started()] == [1]


def test_a_user_with_a_home_keeps_its_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "not" / "there"))
    found = writable_environment(InboxFolder(tmp_path / "inbox"))
    assert found["XDG_CACHE_HOME"] == str(tmp_path / "not" / "there")


@pytest.mark.parametrize("why", ["no home", "a home that cannot be written"])
def test_without_one_the_cache_is_in_the_inbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()
    monkeypatch.delenv("XDG_CACHE_HOME")
    if why == "no home":
        monkeypatch.setattr(file_process, "_cache", lambda: None)
    else:
        monkeypatch.setattr(file_process.os, "access", lambda *_: False)
    found = writable_environment(inbox)
    assert found["XDG_CACHE_HOME"] == str(inbox.state / "cache")


def test_temporary_files_find_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = InboxFolder(tmp_path / "inbox")
    inbox.make()

    def none() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(file_process.tempfile, "gettempdir", none)
    assert writable_environment(inbox)["TMPDIR"] == str(inbox.state / "tmp")
    assert (inbox.state / "tmp").is_dir()
