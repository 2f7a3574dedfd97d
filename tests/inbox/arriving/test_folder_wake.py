"""A wait that ends when a file has arrived, and lasts its time when none has."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headway.inbox.arriving import folder_wake
from headway.inbox.arriving.folder_wake import FolderWake

LONG_S = 60.0


@pytest.fixture
def wake(tmp_path: Path) -> Iterator[FolderWake]:
    wake = FolderWake(tmp_path)
    yield wake
    wake.close()


def closed(folder: Path) -> None:
    with (folder / "a.txt").open("w") as file:
        file.write("a\n")


def moved_in(folder: Path) -> None:
    other = folder.parent / "elsewhere.txt"
    other.write_text("a\n")
    other.rename(folder / "a.txt")


def copied_in_pieces(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a/1.txt").write_text("a\n")


def linked(folder: Path) -> None:
    (folder / "a.txt").symlink_to("/dev/null")


@pytest.mark.parametrize("arrive", [closed, moved_in, copied_in_pieces, linked])
def test_it_ends_early_when_something_arrives(
    wake: FolderWake, tmp_path: Path, arrive: Callable[[Path], None]
) -> None:
    if not wake.is_told:
        pytest.skip("no inotify")
    began_s = time.monotonic()
    late = threading.Timer(0.1, arrive, (tmp_path,))
    late.start()
    assert wake.wait(LONG_S)
    assert time.monotonic() - began_s < LONG_S / 2
    late.join()
    while wake.wait(0.2):  # what came after the first event
        pass
    assert not wake.wait(0.0)  # one arrival, one end of a wait


def test_what_arrived_before_the_wait_ends_it_too(wake: FolderWake, tmp_path: Path) -> None:
    if not wake.is_told:
        pytest.skip("no inotify")
    for number in range(3000):
        (tmp_path / f"{number}.txt").touch()
    assert wake.wait(LONG_S)
    assert not wake.wait(0.0)  # all of them at once


def test_a_sleep_ends_when_a_file_comes_but_not_before_it_has_rested(
    wake: FolderWake, tmp_path: Path
) -> None:
    if not wake.is_told:
        pytest.skip("no inotify")
    for rest_s in (0.0, 0.4):
        closed(tmp_path)
        began_s = time.monotonic()
        wake.sleep(LONG_S, rest_s, lambda: False)
        assert rest_s <= time.monotonic() - began_s < LONG_S / 2


def test_a_sleep_lasts_its_time_and_ends_for_a_stop(wake: FolderWake) -> None:
    began_s = time.monotonic()
    wake.sleep(0.3, 0.0, lambda: False)
    assert time.monotonic() - began_s >= 0.3
    over_s = time.monotonic() + 0.2
    wake.sleep(LONG_S, LONG_S, lambda: time.monotonic() > over_s)
    assert time.monotonic() - over_s < LONG_S / 2


def test_an_answer_ends_a_sleep_at_once_though_it_has_not_rested(
    wake: FolderWake, tmp_path: Path
) -> None:
    answers, theirs = os.pipe()
    closed(tmp_path)
    os.write(theirs, b"done")
    began_s = time.monotonic()
    for _ in range(2):  # until somebody reads it
        wake.sleep(LONG_S, LONG_S, lambda: False, (answers,))
    os.read(answers, 4)
    os.close(theirs)  # whoever would answer is gone
    wake.sleep(LONG_S, LONG_S, lambda: False, (answers,))
    assert time.monotonic() - began_s < LONG_S / 2
    os.close(answers)


def test_what_a_program_writes_meanwhile_does_not(wake: FolderWake, tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("w") as file:
        while wake.wait(0.1):
            pass
        for _ in range(5):
            file.write("a\n")
            file.flush()
            assert not wake.wait(0.01)
        os.utime(tmp_path / "a.txt")
        (tmp_path / ".headway").mkdir(exist_ok=True)
        while wake.wait(0.1):
            pass
        (tmp_path / ".headway/state").write_text("a")
        assert not wake.wait(0.1)


@pytest.mark.parametrize("why", ["not Linux", "no such folder", "no watch left"])
def test_without_events_it_is_a_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    folder = tmp_path
    if why == "not Linux":
        monkeypatch.setattr(folder_wake.sys, "platform", "darwin")
    elif why == "no such folder":
        folder = tmp_path / "none"
    else:

        class Libc:
            def inotify_init1(self, _: int) -> int:
                return -1

        monkeypatch.setattr(folder_wake.ctypes, "CDLL", lambda *_, **__: Libc())
    wake = FolderWake(folder)
    assert not wake.is_told
    slept: list[float] = []
    monkeypatch.setattr(folder_wake.time, "sleep", slept.append)
    assert not wake.wait(0.3)
    assert slept == [0.3]
    wake.close()
