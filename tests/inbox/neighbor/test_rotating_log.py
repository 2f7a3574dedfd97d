"""A log that stays small, and never stops what it is about."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from headway.inbox.neighbor.rotating_log import RotatingLog

AT = "2026-11-30T12:00:00+00:00"


def log(path: Path, most_bytes: int = 100, num_old: int = 2) -> RotatingLog:
    return RotatingLog(path, most_bytes, num_old, lambda: datetime(2026, 11, 30, 12, tzinfo=UTC))


def test_lines_have_the_time(tmp_path: Path) -> None:
    log(tmp_path / "a.log", 1000).write("one", "two")
    log(tmp_path / "a.log", 1000).write("three")  # of the next daemon
    found = (tmp_path / "a.log").read_text()
    assert found == f"{AT} one\n{AT} two\n{AT} three\n"


@pytest.mark.parametrize("num_old", [0, 1, 3])
def test_only_so_much_is_kept_and_it_is_the_newest(tmp_path: Path, num_old: int) -> None:
    one = log(tmp_path / "a.log", num_old=num_old)
    for number in range(50):
        one.write(f"{number:02}")  # 29 bytes: three in a file
    names = ["a.log", *(f"a.log.{number}" for number in range(1, num_old + 1))]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all((tmp_path / name).stat().st_size <= 100 for name in names)
    kept = [
        line.split()[-1]
        for name in reversed(names)
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == [f"{number:02}" for number in range(50)][-len(kept) :]
    assert len(kept) == 3 * num_old + 2


def test_a_line_that_is_too_long_is_cut(tmp_path: Path) -> None:
    one = log(tmp_path / "a.log")
    one.write("x" * 1000)
    one.write("after")
    assert (tmp_path / "a.log").read_text() == f"{AT} after\n"
    assert (tmp_path / "a.log.1").stat().st_size == 100


def test_where_nothing_can_be_written_nothing_stops(tmp_path: Path) -> None:
    log(tmp_path / "none" / "a.log").write("a")
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "a.log").symlink_to("other")
    log(tmp_path / "a.log").write("a")
    assert (tmp_path / "other").read_text() == "theirs"
