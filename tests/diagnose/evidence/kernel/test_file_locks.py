"""File locks: the file, who waits for it, and who holds it, also by an inherited descriptor."""

import os
from pathlib import Path

from tests.diagnose.evidence.kernel.fake_proc import add_process, link

from headway.diagnose.evidence.facts import HeldLock
from headway.diagnose.evidence.kernel.file_locks import FileLocks


def locks(proc: Path, file: Path) -> None:
    found = file.stat()
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    (proc / "locks").write_text(
        "1: POSIX  ADVISORY  READ  33 00:99:1 0 EOF\n"
        f"2: FLOCK  ADVISORY  WRITE 11 {place} 0 EOF\n"
        f"2: -> FLOCK  ADVISORY  WRITE 12 {place} 0 EOF\n"
        "3: OFDLCK ADVISORY  WRITE -1 00:99:5 0 EOF\n"
    )
    (proc / "inherited").write_text(f"pos:\t0\nlock:\t1: FLOCK  ADVISORY  WRITE 11 {place} 0 EOF\n")


def test_who_waits_for_which_file_and_who_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "cache.lock"
    file.touch()
    locks(tmp_path, file)
    add_process(tmp_path, 11)
    link(add_process(tmp_path, 12), 5, str(file))
    assert FileLocks.read(tmp_path).awaited_by(12) == (HeldLock(str(file), 11),)
    assert FileLocks.read(tmp_path).awaited_by(11) == ()


def test_a_holder_that_has_ended_is_nobody(tmp_path: Path) -> None:
    file = tmp_path / "cache.lock"
    file.touch()
    locks(tmp_path, file)
    add_process(tmp_path, 11, state="Z")
    link(add_process(tmp_path, 12), 5, str(file))
    assert FileLocks.read(tmp_path).awaited_by(12) == (HeldLock(str(file), None),)


def test_a_lock_outlives_who_took_it_in_a_child(tmp_path: Path) -> None:
    file = tmp_path / "cache.lock"
    file.touch()
    locks(tmp_path, file)
    child = add_process(tmp_path, 13)
    (child / "fdinfo").mkdir()
    (tmp_path / "inherited").rename(child / "fdinfo" / "7")
    link(add_process(tmp_path, 12), 5, str(file))
    assert FileLocks.read(tmp_path).awaited_by(12) == (HeldLock(str(file), 13),)


def test_a_file_that_cannot_be_found_has_a_number(tmp_path: Path) -> None:
    (tmp_path / "locks").write_text(
        "1: POSIX ADVISORY WRITE 11 fd:01:42 0 EOF\n1: -> POSIX ADVISORY WRITE 12 fd:01:42 0 EOF\n"
    )
    add_process(tmp_path, 11)
    add_process(tmp_path, 12)
    assert FileLocks.read(tmp_path).awaited_by(12) == (HeldLock("file fd:01:42", 11),)
