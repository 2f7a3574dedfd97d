"""Output that never waits: a pipe that nobody empties, a terminal that is stopped."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from headway.base.errors import Cause, MachineError
from headway.supervise.progress import Progress, Readings
from headway.ui.output import Lines, Silence
from headway.ui.queued_stream import QueuedStream, Writer, queued
from headway.ui.screens import make_screen

LINE = "a line of text · " * 60


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """What reads and what is written to."""
    ours, theirs = os.pipe()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        yield ours, stream
    os.close(ours)


@pytest.fixture
def stopped() -> Iterator[tuple[int, TextIO]]:
    """A terminal after Ctrl+S: whoever writes to it waits."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        termios.tcflow(theirs, termios.TCOOFF)
        yield ours, stream
        termios.tcflow(theirs, termios.TCOON)
        termios.tcflush(theirs, termios.TCIOFLUSH)
    os.close(ours)


def read_until(ours: int, last: str) -> str:
    data = b""
    while last.encode() not in data:
        data += os.read(ours, 1 << 16)
    return data.decode()


@pytest.mark.timeout(20)
def test_writing_does_not_wait_and_everything_arrives_in_order(pipe: tuple[int, TextIO]) -> None:
    ours, stream = pipe
    out = QueuedStream(stream, Writer())
    for number in range(3000):
        out.write(f"{number}\n")
        out.write(LINE + "\n")
        out.flush()
    assert out.is_behind
    assert out.is_full
    out.drain(0.05)  # nobody reads: it gives up
    out.write("the end\n")
    out.flush()
    lines = read_until(ours, "the end\n").splitlines()
    assert lines[:-1:2] == [str(number) for number in range(3000)]
    out.drain(10)
    assert not out.is_behind


@pytest.mark.timeout(20)
def test_what_does_not_fit_is_left_out_and_counted_but_never_the_last_lines(
    pipe: tuple[int, TextIO],
) -> None:
    ours, stream = pipe
    _, err = os.pipe()
    with os.fdopen(err, "w") as stderr:
        out, _ = queued(stream, stderr)
    lines = Lines(out, Silence(time.monotonic))
    for _ in range(5000):
        lines.write(LINE)
    lines.write("the receipt", last=True)
    text = read_until(ours, "the receipt\n")
    assert 500 < text.count(LINE) < 4000
    assert f"({5000 - text.count(LINE):,} lines left out: nobody read this output)" in text
    assert text.endswith("\nthe receipt\n")


def test_a_reader_that_left_is_an_error() -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "w", encoding="utf-8") as stream:
        out = QueuedStream(stream, Writer())
        out.write("nobody reads this\n")
        with pytest.raises(BrokenPipeError):
            out.flush()
        out.drain(60)


def test_streams_that_show_in_one_place_stay_in_order(pipe: tuple[int, TextIO]) -> None:
    ours, stream = pipe
    with os.fdopen(os.dup(stream.fileno()), "w", encoding="utf-8") as second:
        out, err = queued(stream, second)
        for number in range(50):
            one: Any = (out, err)[number % 2]
            one.write(f"{number}\n")
            one.flush()
        assert read_until(ours, "49\n").split() == [str(number) for number in range(50)]


def test_what_has_no_descriptor_is_written_directly() -> None:
    stream = io.StringIO()
    assert queued(stream, stream) == (stream, stream)


@pytest.mark.timeout(20)
def test_a_stopped_terminal_gets_no_frames_and_every_last_line(stopped: tuple[int, TextIO]) -> None:
    ours, stream = stopped
    now_s = [0.0]
    screen = make_screen(
        stream, stream, clock=lambda: now_s[0], environ={"TERM": "xterm", "COLUMNS": "80"}
    )
    status = Progress("notes").status(Readings(), 0.0)
    for number in range(2000):
        now_s[0] += 1.0
        screen.status(status)
        if number == 1000:
            screen.say("in the middle")
    screen.refusal(MachineError("the disk is full", cause=Cause.DISK_FULL))
    screen.close(0.05)
    termios.tcflow(stream.fileno(), termios.TCOON)
    text = read_until(ours, "the disk is full")
    assert "in the middle\r\n" in text
    assert len(text) < 3000  # a frame or two, not two thousand
    screen.close(10)


def until(what: Callable[[], Any], limit_s: float = 60) -> None:
    end_s = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.02)


@pytest.mark.timeout(100)
def test_behind_a_stopped_terminal_signals_are_heard(
    stopped: tuple[int, TextIO], tmp_path: Path
) -> None:
    _, stream = stopped
    os.mkfifo(tmp_path / "never.jsonl")
    (tmp_path / "live").mkdir(mode=0o700)
    process = subprocess.Popen(
        [sys.executable, "-m", "headway", "plan", "never.jsonl", "--preset", "tiny", "--grace-s=2"],
        cwd=tmp_path,
        env=os.environ | {"TERM": "xterm", "XDG_RUNTIME_DIR": str(tmp_path / "live")},
        stdin=stream,
        stdout=stream,
        stderr=stream,
    )
    try:
        until(lambda: list(tmp_path.glob("live/headway/*/planner.pulse")))
        (job,) = tmp_path.glob("live/headway/*/job.json")
        assert json.loads(job.read_text())["process"]["pid"] == process.pid
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 75
    finally:
        process.kill()
        process.wait()
