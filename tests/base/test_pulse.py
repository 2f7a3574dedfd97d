"""The pulse: written by one thread, read at any moment, never torn."""

import contextlib
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headway.base.pulse import LAYOUT, SIZE, Phase, Pulse, PulseReading, read_pulse


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pulse-0"


def read(path: Path) -> PulseReading:
    reading = read_pulse(path)
    assert reading is not None
    return reading


def test_a_new_pulse_says_who_it_is(path: Path) -> None:
    Pulse(path, rank=3, attempt=2)
    reading = read(path)
    assert (reading.pid, reading.rank, reading.attempt) == (os.getpid(), 3, 2)
    assert (reading.phase, reading.waiting) == ("starting", "")
    assert reading.beat == 1


def test_everything_said_is_read(path: Path) -> None:
    pulse = Pulse(path)
    pulse.rows, pulse.tokens, pulse.skipped = 8, 700, 12
    pulse.step, pulse.steps, pulse.global_step, pulse.loss = 3, 100, 2491, 2.45
    pulse.enter(Phase.READING, total=1000, unit="bytes")
    pulse.progress(512)
    reading = read(path)
    assert (reading.rows, reading.tokens, reading.skipped) == (8, 700, 12)
    assert (reading.step, reading.steps, reading.global_step) == (3, 100, 2491)
    assert reading.loss == 2.45
    assert (reading.phase, reading.done, reading.total) == ("reading", 512, 1000)
    assert reading.unit == "bytes"


def test_the_record_fits_its_file(path: Path) -> None:
    Pulse(path)
    assert path.stat().st_size == SIZE
    assert struct.calcsize("<" + "".join(code for _, code in LAYOUT)) <= SIZE


def test_the_layout_is_what_other_programs_read(path: Path) -> None:
    """By the offsets of docs/schemas/pulse.json, without our code."""
    pulse = Pulse(path)
    pulse.enter(Phase.TRAINING, total=100, unit="steps")
    pulse.loss = 2.45
    pulse.beat()
    data, offset = path.read_bytes(), {}
    for i, (name, _) in enumerate(LAYOUT):
        offset[name] = struct.calcsize("<" + "".join(code for _, code in LAYOUT[:i]))
    assert data[:8] == b"HEADWAY1"
    assert offset["phase"] == 32
    assert data[32:64].rstrip(b"\0") == b"training"
    assert struct.unpack_from("<Q", data, offset["total"]) == (100,)
    assert struct.unpack_from("<d", data, offset["loss"]) == (2.45,)


def test_phases_nest_and_the_one_before_goes_on(path: Path) -> None:
    pulse = Pulse(path)
    pulse.enter(Phase.TRAINING, total=100, unit="steps")
    pulse.progress(40)
    before = read(path)
    with pulse.phase(Phase.SAVING, total=5, unit="files"):
        pulse.progress(2)
        with pulse.phase(Phase.HASHING_MODEL):
            assert read(path).phase == "hashing the model"
        inner = read(path)
        assert (inner.phase, inner.done, inner.total, inner.unit) == ("saving", 2, 5, "files")
    after = read(path)
    assert (after.phase, after.done, after.total, after.unit) == ("training", 40, 100, "steps")
    assert after.phase_since == before.phase_since
    assert after.beat > before.beat


def test_waits_nest_and_end_even_by_an_error(path: Path) -> None:
    pulse = Pulse(path)
    with pulse.waiting("rank 3"):
        with contextlib.suppress(TimeoutError), pulse.waiting("the disk"):
            assert read(path).waiting == "the disk"
            raise TimeoutError
        reading = read(path)
        assert reading.waiting == "rank 3"
        assert 0 < reading.waiting_since <= reading.updated
    assert read(path).waiting == ""


def test_who_watches_somebody_else_says_what_that_waits_for(path: Path) -> None:
    pulse = Pulse(path)
    pulse.wait_for("output", 40.0)
    assert (read(path).waiting, read(path).waiting_since) == ("output", 40.0)
    pulse.wait_for("")
    assert read(path).waiting == ""


def test_long_words_are_cut_between_letters(path: Path) -> None:
    pulse = Pulse(path)
    with pulse.phase("é" * 40), pulse.waiting("x" + "😀" * 40):  # pyright: ignore[reportArgumentType]
        reading = read(path)
    assert reading.phase == "é" * 16
    assert reading.waiting == "x" + "😀" * 23


def test_a_pulse_without_a_watcher_needs_no_file() -> None:
    pulse = Pulse()
    with pulse.phase(Phase.TRAINING), pulse.waiting("data"):
        pulse.progress(1)
        assert pulse.done == 1


@pytest.mark.parametrize("content", [b"", b"HEADWAY1", b"x" * SIZE, b"HEADWAY9" + bytes(SIZE - 8)])
def test_what_is_no_pulse_reads_as_none(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert read_pulse(path) is None


def test_no_file_reads_as_none(path: Path) -> None:
    assert read_pulse(path) is None


def test_a_record_that_is_being_written_is_not_read(path: Path) -> None:
    Pulse(path)
    data = bytearray(path.read_bytes())
    data[8] |= 1  # the sequence number is odd while the writer is at it
    path.write_bytes(data)
    assert read_pulse(path) is None


# A writer that changes every number at each beat, to the same number.
HAMMER = """
import sys
from pathlib import Path
from headway.base.pulse import Pulse
pulse = Pulse(Path(sys.argv[1]))
print("beating", flush=True)
n = 0
while True:
    n += 1
    pulse.rows = pulse.tokens = pulse.skipped = pulse.step = pulse.steps = n
    pulse.global_step = pulse.done = pulse.total = n
    pulse.loss = float(n)
    pulse.enter(f"phase {n}", total=n)
    pulse.progress(n)
"""


@pytest.fixture
def hammer(path: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HAMMER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "beating\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_ten_thousand_reads_under_a_hammering_writer_are_never_torn(
    path: Path, hammer: "subprocess.Popen[str]"
) -> None:
    readings: list[PulseReading] = []
    while len(readings) < 10_000:
        # It gives up on a writer that lost its core in the middle of a beat; the next look has it.
        readings += filter(None, [read_pulse(path)])
    for reading in readings:
        same = {reading.rows, reading.tokens, reading.step, reading.global_step, reading.loss}
        assert len(same) == 1
        assert reading.phase in (f"phase {reading.step}", f"phase {reading.step - 1}", "starting")
    beats = [reading.beat for reading in readings]
    assert beats == sorted(beats)
    assert beats[-1] > beats[0]


def test_a_link_is_neither_read_nor_written(path: Path, tmp_path: Path) -> None:
    Pulse(path)
    (tmp_path / "link").symlink_to(path)
    before = path.read_bytes()
    assert read_pulse(tmp_path / "link") is None
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        Pulse(tmp_path / "link")
    assert path.read_bytes() == before


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_pulse(tmp_path / "pipe") is None
    assert read_pulse(tmp_path) is None


def test_nobody_else_may_read_a_pulse(path: Path) -> None:
    Pulse(path)
    assert path.stat().st_mode & 0o077 == 0


def test_gathered_work_is_handed_over_before_a_wait_is_named(path: Path) -> None:
    pulse = Pulse(path)
    named: list[str] = []
    with (
        pulse.calling_before_waits(lambda: named.append(read(path).waiting)),
        pulse.waiting("rows"),
    ):
        assert read(path).waiting == "rows"
    with pulse.waiting("more"):
        pass
    assert named == [""]


def test_the_time_that_writing_takes_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse()
    before_s, clock = pulse.written_s, iter(range(0, 1000, 7))
    monkeypatch.setattr("headway.base.pulse.time.monotonic", lambda: float(next(clock)))
    pulse.beat()
    pulse.beat()
    assert pulse.written_s - before_s == 14.0


def test_a_thread_that_imports_beats_while_it_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = Pulse()
    with pulse.importing(Phase.IMPORTING_TORCH):
        for number in range(25):
            monkeypatch.setitem(sys.modules, f"made_up_{number}", sys)
            time.sleep(0.1)
    assert pulse.done > 15
    assert pulse.longest_silence_s < 2
    still = Pulse()
    with still.importing(Phase.IMPORTING_TRANSFORMERS):
        time.sleep(2.5)  # as a thread that waits for a lock
    still.beat()
    assert still.longest_silence_s > 1.5


def test_after_the_imports_the_thread_itself_beats_again() -> None:
    before = threading.active_count()
    pulse = Pulse()
    with pytest.raises(ImportError), pulse.importing(Phase.IMPORTING_TORCH):
        raise ImportError
    assert threading.active_count() == before
