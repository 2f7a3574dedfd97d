import os
from pathlib import Path

import pytest

from headway.diagnose.evidence.facts import Link, OpenFile
from headway.diagnose.evidence.kernel.text_position import with_lines

SELF = Path("/proc/self")


def line_of(path: Path, num_read: int) -> int:
    """The line that is told for a reader at a position, from its own process."""
    with path.open("rb") as file:
        file.seek(num_read)
        opened = OpenFile(file.fileno(), Link.FILE, str(path))
        return with_lines(SELF, (opened,))[0].line


@pytest.mark.parametrize("num_before", [0, 1, 41, 5000])
def test_a_long_line_is_numbered_also_behind_a_reader_that_reads_ahead(
    tmp_path: Path, num_before: int
) -> None:
    path = tmp_path / "rows.jsonl"
    before, line = b"a short line\n" * num_before, b"a" * 200_000 + b"\n"
    path.write_bytes(before + line + b"another\n" * 5000)
    end = len(before) + len(line)
    for position in (end - 100_000, end - 1, end, end + 8000):
        assert line_of(path, position) == num_before + 1, position
    assert line_of(path, end + 30_000) == 0, "it is past it"


def test_short_lines_are_not_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "rows.txt"
    path.write_bytes(b"a short line\n" * 1000)
    assert line_of(path, 5000) == 0
    assert line_of(path, 0) == 0


def test_only_files_of_text_are_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a" * 100_000)
    assert line_of(path, 50_000) == 0
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    descriptor = os.open(pipe, os.O_RDWR)
    try:
        opened = (OpenFile(descriptor, Link.FILE, str(pipe)),)
        assert with_lines(SELF, opened) == opened
    finally:
        os.close(descriptor)


def test_a_descriptor_that_is_closed_by_now_has_no_line() -> None:
    gone = (OpenFile(9999, Link.FILE, "/tmp/rows.txt"), OpenFile(3, Link.PIPE, "pipe:[1]"))
    assert with_lines(SELF, gone) == gone
