"""Limits on a process: recognized by what the system says and what a library raises."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from headway.base.errors import Cause, Exit, exit_code
from headway.base.host import limits
from headway.base.host.limits import Limits, death_by_limit, limit_refusal, this_process

FREE = Limits(threads_left=None, address_space=None, open_files=20_000)
FEW = Limits(threads_left=2, address_space=None, open_files=16)
NARROW = Limits(threads_left=None, address_space=900_000_000, open_files=20_000)


@pytest.mark.parametrize(
    ("error", "at", "cause"),
    [
        (BlockingIOError(errno.EAGAIN, "no fork"), FEW, Cause.TOO_FEW_PROCESSES),
        (RuntimeError("can't start new thread"), FEW, Cause.TOO_FEW_PROCESSES),
        (OSError(errno.EMFILE, "too many"), FEW, Cause.TOO_FEW_OPEN_FILES),
        (MemoryError(), NARROW, Cause.ADDRESS_SPACE_LIMIT),
        (OSError(errno.ENOMEM, "no memory"), NARROW, Cause.ADDRESS_SPACE_LIMIT),
        (
            ImportError("failed to map segment from shared object"),
            NARROW,
            Cause.ADDRESS_SPACE_LIMIT,
        ),
        (RuntimeError("could not create a primitive"), NARROW, Cause.ADDRESS_SPACE_LIMIT),
    ],
)
def test_what_a_library_raises_at_a_limit(error: Exception, at: Limits, cause: Cause) -> None:
    refusal = limit_refusal(error, at)
    assert refusal is not None
    assert (refusal.cause, exit_code(refusal)) == (cause, Exit.MACHINE)
    assert refusal.have
    assert refusal.need
    assert refusal.remedies


@pytest.mark.parametrize(
    "error",
    [MemoryError(), ImportError("failed to map segment"), RuntimeError("no"), OSError(5, "no")],
)
def test_without_a_limit_it_is_something_else(error: Exception) -> None:
    assert limit_refusal(error, FREE) is None


@pytest.mark.parametrize(
    ("one", "threads", "cause"),
    [
        (FREE, 2, None),
        (Limits(100, None, None), 2, None),
        (Limits(100, None, None), 96, Cause.TOO_FEW_PROCESSES),
        (Limits(2, None, None), 1, Cause.TOO_FEW_PROCESSES),
        (Limits(None, 900_000_000, None), 2, Cause.ADDRESS_SPACE_LIMIT),
        (Limits(None, 64 << 30, None), 2, None),
    ],
)
def test_a_death_without_a_word(one: Limits, threads: int, cause: Cause | None) -> None:
    refusal = death_by_limit(one, threads)
    assert (refusal.cause if refusal else None) is cause


def test_threads_of_this_user_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for pid, uid, num in ((1, 0, 9), (7, 4242, 3), (8, 4242, 5)):
        (tmp_path / str(pid)).mkdir()
        text = f"Name:\tx\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nThreads:\t{num}\n"
        (tmp_path / str(pid) / "status").write_text(text)
    monkeypatch.setattr(limits, "_PROC", tmp_path)
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (20, 20))
    assert this_process().threads_left == 12
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert this_process().threads_left is None


# A user with few processes left who may read what root may, wherever Python is installed.
NOBODY = [
    *("setpriv", "--reuid", "65534", "--clear-groups"),
    *("--inh-caps=+dac_override,+dac_read_search", "--ambient-caps=+dac_override,+dac_read_search"),
]


@pytest.mark.parametrize(
    ("limit", "first_line"),
    [
        ("ulimit -u 2", "too few processes and threads are allowed"),
        ("ulimit -v 300000", "the limit on address space is too low"),
        ("ulimit -f 1", "a file exceeds the file size limit of this process"),
    ],
)
def test_each_limit_is_told_for_what_it_is(tmp_path: Path, limit: str, first_line: str) -> None:
    (tmp_path / "notes.txt").write_text("some words of text\n" * 400)
    command = f"{limit}; exec {sys.executable} -P -m headway train notes.txt --preset tiny"
    enter = NOBODY if os.geteuid() == 0 else []
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "XDG_RUNTIME_DIR": ""}
    done = subprocess.run(
        [*enter, "bash", "-c", command],
        cwd=tmp_path,
        env=os.environ | places,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == Exit.MACHINE, done.stderr
    assert first_line in done.stderr.splitlines()
    assert "Traceback" not in done.stderr
