"""F02, F37: killed at, or refused by, every single system call of a save.

strace lets one call of a process fail, or kills the process as it makes it. Each save runs in a
child forked from one warm process; calls that do nothing bring the child's count to the one that
is struck.
"""

import json
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.failures.saver import NOTHING, save, weights
from tests.failures.traced import saver, strace, told, traced

from headway.base import files
from headway.base.errors import Exit
from headway.runs.folder import RunFolder

STRUCK = 100  # more than a save makes of any kind


@dataclass(frozen=True)
class Ended:
    """A save of step 2 that was struck at a call."""

    folder: Path
    call: str
    status: int  # as of waitpid

    @property
    def code(self) -> int:
        return os.waitstatus_to_exitcode(self.status)

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.folder)

    def newest(self) -> int:
        """The newest checkpoint that a resume finds, its bytes being those that were saved."""
        self.run.delete_leftovers()
        newest, _ = self.run.newest_verified()
        if newest is None:
            return 0
        assert (newest.path / "model.safetensors").read_bytes() == weights(newest.global_step)
        return newest.global_step


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a checkpoint of step 1."""
    folder = tmp_path_factory.mktemp("before") / "run"
    folder.mkdir()
    save(folder, 1)
    return folder


def attempts(
    place: Path, before: Path, jobs: list[tuple[str, int]], inject: str, *mutant: str
) -> list[Ended]:
    """A save of step 2 for each job: which call, and how many of it come before."""
    place.mkdir()
    work: list[tuple[str, str, int]] = []
    for number, (call, calls_before) in enumerate(jobs):
        folder = place / f"run-{number}"
        shutil.copytree(before, folder, symlinks=True)
        work.append((str(folder), call, calls_before))
    words = strace(place / "trace", inject)
    (place / "jobs.json").write_text(json.dumps({"strace": words, "attempts": work}))
    change = [json.dumps(mutant)] if mutant else []
    told(*saver("serve", place / "jobs.json", place / "answers.json", *change))
    statuses = json.loads((place / "answers.json").read_text())
    ended = zip(work, statuses, strict=True)
    return [Ended(Path(folder), call, status) for (folder, call, _), status in ended]


@pytest.fixture(scope="module")
def points(before: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, int]]:
    """Every call of an undisturbed save: which, and how many of it came before in the process."""
    place = tmp_path_factory.mktemp("points") / "whole"
    (whole,) = attempts(place, before, [("write", 0)], inject="")
    assert (whole.code, whole.newest()) == (0, 2)
    done = traced(place / "trace")
    child = next(c.pid for c in done if c.name == "fsync" and str(whole.folder) in c.arguments)
    seen: dict[str, int] = {}
    found: list[tuple[str, int]] = []
    for call in done:
        if call.pid == child:
            seen[call.name] = seen.get(call.name, 0) + 1
            if str(whole.folder) in call.arguments and call.name in NOTHING:
                found.append((call.name, seen[call.name]))
    assert {"fsync", "rename", "write", "unlinkat"} <= {call for call, _ in found}
    assert len(found) > 80
    return found


def struck(
    place: Path, before: Path, points: list[tuple[str, int]], inject: str, *mutant: str
) -> list[Ended]:
    """A save for each point, struck there."""
    jobs = [(call, STRUCK - number) for call, number in points]
    return attempts(place, before, jobs, f"{inject}:when={STRUCK}", *mutant)


def test_f02_c01_killed_at_any_call_the_old_or_the_new_is_there_and_the_next_save_works(
    tmp_path: Path, before: Path, points: list[tuple[str, int]]
) -> None:
    at = [point for point in points if point[0] not in ("read", "close")]  # as good as the next one
    ended = struck(tmp_path / "kill", before, at, "signal=KILL")
    assert {one.code for one in ended} == {-signal.SIGKILL}
    assert {one.newest() for one in ended} == {1, 2}
    for one in ended:
        save(one.folder, 3)
        assert one.newest() == 3
        assert sorted(p.name for p in one.folder.iterdir()) == ["checkpoint-3", "model"]


def test_f02_a_save_that_deletes_the_old_one_first_would_be_found(
    tmp_path: Path, before: Path, points: list[tuple[str, int]]
) -> None:
    begin = "    make_folder(final.parent, elsewhere)\n    with disk_errors(final, elsewhere):\n"
    early = "    [delete_folder(old) for old in final.parent.glob('checkpoint-*')]\n"
    assert Path(files.__file__).read_text().count(begin) == 1
    at = [point for point in points if point[0] == "write"]
    mutant = (files.__name__, begin, early + begin)
    ended = struck(tmp_path / "mutant", before, at, "signal=KILL", *mutant)
    assert 0 in {one.newest() for one in ended}


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT", "EROFS"])
def test_f37_a_call_that_fails_ends_the_save_and_nothing_is_acknowledged_falsely(
    tmp_path: Path, before: Path, points: list[tuple[str, int]], error: str
) -> None:
    looks = ("read", "close", "fadvise64") if error != "EIO" else ()  # full disks can be read
    at = [point for point in points if point[0] not in looks]
    ended = struck(tmp_path / error, before, at, f"error={error}")
    for one in ended:
        assert one.code in (Exit.KEPT, Exit.MACHINE), one
        assert one.newest() == 2 or one.code == Exit.MACHINE, one
    refused = {one.call for one in ended if one.code == Exit.MACHINE}
    assert refused >= {"openat", "write", "fsync", "mkdir", "rename", "symlink"}
    # What may fail unheard: making a folder that is there, advice, and deleting the older one.
    unheard = {one.call for one in ended if one.code == Exit.KEPT} - {"mkdir", "fadvise64"}
    assert unheard <= {"openat", "close", "rename", "unlink", "unlinkat", "rmdir"}


def test_f37_a_disk_that_stays_broken_is_no_different(
    tmp_path: Path, before: Path, points: list[tuple[str, int]]
) -> None:
    at = [point for point in points if point[0] in ("write", "fsync", "rename")]
    jobs = [(call, STRUCK - number) for call, number in at]
    ended = attempts(tmp_path / "stays", before, jobs, f"error=EIO:when={STRUCK}+")
    assert {one.newest() for one in ended} == {1, 2}
    for one in ended:
        assert one.newest() == 2 or one.code == Exit.MACHINE, one


FORGETFUL = {
    "of a file": "        os.fsync(file.fileno())\n        if hasattr",
    "of a folder": "        os.fsync(descriptor)\n",
}


@pytest.mark.parametrize("kind", FORGETFUL)
def test_f37_an_fsync_error_that_is_tried_again_would_be_found(
    tmp_path: Path, before: Path, points: list[tuple[str, int]], kind: str
) -> None:
    line = FORGETFUL[kind]
    assert Path(files.__file__).read_text().count(line) == 1
    call, rest = line.split("\n", 1)
    once_more = f"        with contextlib.suppress(OSError):\n    {call}\n{call}\n{rest}"
    at = [point for point in points if point[0] == "fsync"]
    mutant = (files.__name__, line, once_more)
    ended = struck(tmp_path / "mutant", before, at, "error=EIO", *mutant)
    assert Exit.KEPT in {one.code for one in ended}
