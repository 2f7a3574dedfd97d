"""The guard's own lines between the command's: they tear none, and leave nothing behind."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from headway.guard.command.outlet import ERR, OUT, Outlet


class Streams:
    """Standard output and error, replaced by files."""

    def __init__(self, folder: Path) -> None:
        self.paths = {OUT: folder / "out", ERR: folder / "err"}
        self._before = {stream: os.dup(stream) for stream in self.paths}
        for stream, path in self.paths.items():
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
            os.dup2(file, stream)
            os.close(file)

    def close(self) -> None:
        for stream, before in self._before.items():
            os.dup2(before, stream)
            os.close(before)

    def read(self, stream: int) -> bytes:
        return self.paths[stream].read_bytes()


@contextmanager
def replaced(folder: Path) -> Generator[Streams]:
    """In the test itself: between its phases, pytest sets the streams."""
    streams = Streams(folder)
    try:
        yield streams
    finally:
        streams.close()


def test_bytes_pass_unchanged(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset(), lambda: 80)
        assert outlet.pass_on(OUT, b"\xff\x00one\r")
        assert outlet.pass_on(ERR, b"two")
        assert (streams.read(OUT), streams.read(ERR)) == (b"\xff\x00one\r", b"two")


def test_in_a_file_a_line_of_ours_begins_a_line(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset(), lambda: 80)
        outlet.show("headway: a")
        outlet.pass_on(ERR, b" 45%|###   ")
        outlet.pass_on(OUT, b"other stream\n")
        outlet.show("headway: b")
        outlet.pass_on(ERR, b"done\n")
        outlet.say(["headway: c", "more"])
        expected = b"headway: a\n 45%|###   \nheadway: b\ndone\nheadway: c\nmore\n"
        assert streams.read(ERR) == expected
        assert streams.read(OUT) == b"other stream\n"


def test_after_2_to_1_a_line_of_ours_begins_a_line_of_both(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset(), lambda: 80, together=frozenset({OUT, ERR}))
        outlet.pass_on(OUT, b"half")
        outlet.show("headway: a")
        outlet.show("headway: b")
        assert streams.read(ERR) == b"\nheadway: a\nheadway: b\n"


def test_on_a_terminal_a_line_is_removed_before_the_next_byte(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset({OUT, ERR}), lambda: 80)
        outlet.pass_on(OUT, b"step 1\r\n")
        outlet.show("headway: a")
        outlet.pass_on(OUT, b"step 2\r\n")
        assert streams.read(ERR) == b"\r\x1b[2K\x1b[2mheadway: a\x1b[0m\r\r\x1b[2K"
        assert streams.read(OUT) == b"step 1\r\nstep 2\r\n"


def test_a_bar_keeps_its_line_and_its_cursor(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset({OUT, ERR}), lambda: 80)
        outlet.pass_on(ERR, b"\r 45%|###   ")
        outlet.show("headway: a")
        outlet.show("headway: b")
        outlet.pass_on(ERR, b"\r 46%|###   ")
        below, back = b"\x1b7\x1b[B\r\x1b[2K", b"\x1b8"
        assert streams.read(ERR) == (
            b"\r 45%|###   "
            b"\x1bD\x1b[A"
            + below
            + b"\x1b[2mheadway: a\x1b[0m"
            + back  # a row is made once
            + below
            + b"\x1b[2mheadway: b\x1b[0m"
            + back
            + below
            + back  # removed
            + b"\r 46%|###   "
        )


@pytest.mark.parametrize(
    "drawn",
    [b"\x1b[?1049h", b"bar 1\r\nbar 2\x1b[A", b"\x1b[2Jx\x1b[H", b"\x1bM"],
    ids=["full screen", "two bars", "cleared", "reverse line feed"],
)
def test_nothing_is_shown_where_the_command_draws(tmp_path: Path, drawn: bytes) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset({OUT, ERR}), lambda: 80)
        outlet.pass_on(OUT, drawn)
        assert not outlet.show("headway: a")
        assert streams.read(ERR) == b""


def test_nothing_is_shown_to_a_command_that_reads_keys(tmp_path: Path) -> None:
    with replaced(tmp_path):
        outlet = Outlet(frozenset({OUT, ERR}), lambda: 80, lambda: False)
        assert not outlet.show("headway: a")


def test_a_long_line_is_cut_to_the_terminal(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset({OUT, ERR}), lambda: 30)
        outlet.show("headway: " + "x" * 100)
        assert b"x" * 19 + b"\xe2\x80\xa6" in streams.read(ERR)
        assert b"x" * 20 not in streams.read(ERR)


def test_quiet_says_only_what_comes_last(tmp_path: Path) -> None:
    with replaced(tmp_path) as streams:
        outlet = Outlet(frozenset(), lambda: 80, quiet=True)
        assert not outlet.show("headway: a")
        outlet.say(["headway: b"])
        outlet.say(["headway: c"], last=True)
        assert streams.read(ERR) == b"headway: c\n"


def test_a_reader_that_left_is_told(tmp_path: Path) -> None:
    with replaced(tmp_path):
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, OUT)
        os.close(write)
        assert not Outlet(frozenset(), lambda: 80).pass_on(OUT, b"x")
