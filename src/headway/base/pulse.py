"""Pulse: a shared-memory record per worker with phase, step and current wait.

The working thread itself writes the record, never a helper thread, so that a deadlocked worker
cannot look alive; for the one exception see `Pulse.helped`. The record is preallocated on
/dev/shm (or another local disk): writing it neither allocates nor blocks. Readers use the sequence
number: if it is odd or has changed, they read again (a seqlock).

The record is `LAYOUT`, little endian, in a file of `SIZE` bytes; docs/schemas/pulse.json has its
offsets. All times are CLOCK_MONOTONIC seconds, comparable between the processes of one machine.
"""

import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from headway.base.files import regular_file
from headway.base.host.utilization import Activity, Spent

MAGIC = b"HEADWAY1"
SIZE = 512
# Name and struct code: 8s is 8 bytes of UTF-8 padded with zeros, Q u64, I u32, d f64.
LAYOUT = (
    *(("magic", "8s"), ("sequence", "Q")),
    *(("pid", "I"), ("rank", "I"), ("attempt", "I"), ("pad", "I")),
    *(("phase", "32s"), ("phase_since", "d"), ("waiting", "96s"), ("waiting_since", "d")),
    *(("beat", "Q"), ("updated", "d")),
    *(("done", "Q"), ("total", "Q"), ("unit", "16s")),
    *(("rows", "Q"), ("tokens", "Q"), ("skipped", "Q")),
    *(("step", "Q"), ("steps", "Q"), ("global_step", "Q"), ("loss", "d")),
    *(("activity", "32s"), ("activity_since", "d"), ("counted_since", "d")),
    *(("computing_s", "d"), ("data_s", "d"), ("peers_s", "d"), ("saving_s", "d")),
)
_LOOK_S = 0.25  # between two looks at a thread that imports, and two beats that are not needed
_current_frames = sys._current_frames  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented
_HEAD = struct.Struct("<" + "".join(code for _, code in LAYOUT[:2]))
_BODY = struct.Struct("<" + "".join(code for _, code in LAYOUT[2:]))


class Phase(StrEnum):
    """What a process is busy with, in the words a person reads.

    Pulses, events and receipts carry the text; code compares members. A log may name phases of
    another Headway, so a phase that was read is a plain string until `Phase.parse` knows it.
    """

    STARTING = "starting"
    IMPORTING_TORCH = "importing torch"
    IMPORTING_TRANSFORMERS = "importing transformers"

    FINDING_DATA = "finding the data"
    LOOKING_UP_MODEL = "looking up the model"
    DOWNLOADING_MODEL = "downloading the model"
    HASHING_MODEL = "hashing the model"
    CONVERTING_MODEL = "converting the model"
    READING = "reading"
    LOADING_TOKENIZER = "loading the tokenizer"
    TRAINING_TOKENIZER = "training a tokenizer"
    TOKENIZING = "tokenizing"
    PLANNING = "planning"

    PREPARING = "preparing"
    LOADING_MODEL = "loading the model"
    LOADING_CHECKPOINT = "loading the checkpoint"
    CHECKING_PACKING = "checking the packing"
    COMPILING = "compiling"
    TRYING_LARGEST_BATCH = "trying the largest batch"
    PROBING = "probing"
    RUNNING = "running"  # another program, of which nothing else is known
    TRAINING = "training"
    EVALUATING = "evaluating"
    SAMPLING = "sampling"
    SAVING = "saving"
    AUDITING_WEIGHTS = "auditing the weights"
    WRITING_RECEIPT = "writing the receipt"
    VERIFYING_CHECKPOINT = "verifying the checkpoint"
    EXPORTING = "writing the export"
    VERIFYING_EXPORT = "comparing the export"
    VERIFYING_BACKUP = "verifying the backup"
    BACKING_UP_CURRENT = "backing up the current run"
    COPYING = "copying"
    READING_LOG = "reading the log"
    RECOMPUTING = "recomputing"
    ANSWERING = "answering"

    @classmethod
    def parse(cls, text: str) -> "Phase | None":
        """The phase with this text; None for one this version does not know."""
        return next((phase for phase in cls if phase.value == text), None)


class ReaderWait(StrEnum):
    """What the reader of a stream waits for in addition to its sources, as its pulse shows it."""

    REQUEST = "a request for rows"


@dataclass(frozen=True)
class PulseReading:
    """The last record of a worker."""

    pid: int
    rank: int
    attempt: int
    phase: str
    phase_since: float  # CLOCK_MONOTONIC, seconds
    waiting: str  # what it waits for, "" if it is not waiting
    waiting_since: float
    beat: int  # increases with every write
    updated: float
    done: int  # `unit`s within the phase, out of `total`; 0 if unknown
    total: int
    unit: str
    rows: int
    tokens: int
    skipped: int
    step: int  # finished steps of this job
    steps: int  # planned steps of this job
    global_step: int
    loss: float
    activity: str = ""  # what its time goes to now, "" for anything else
    activity_since: float = 0.0
    counted_since: float = 0.0  # when the seconds below began; 0 before the first step
    computing_s: float = 0.0
    data_s: float = 0.0
    peers_s: float = 0.0
    saving_s: float = 0.0

    def spent(self, now_s: float) -> Spent:
        """What its time went to, up to `now_s`."""
        if not self.counted_since:
            return Spent()
        total = max(now_s - self.counted_since, 0.0)
        counted = Spent(self.computing_s, self.data_s, self.peers_s, self.saving_s, total)
        return counted.plus(Activity.parse(self.activity), max(now_s - self.activity_since, 0.0))


class Pulse:
    """Writer of a pulse; without a file it writes to private memory."""

    def __init__(self, path: Path | None = None, *, rank: int = 0, attempt: int = 1) -> None:
        self._memory = _mapped(path) if path else memoryview(bytearray(SIZE))
        self._sequence = self._beat = 0
        self.rank, self.attempt = rank, attempt
        self._phase: str = Phase.STARTING
        self._phase_since = time.monotonic()
        self._waiting, self._waiting_since = "", 0.0
        self.done = self.total = 0
        self.unit = ""
        self.rows = self.tokens = self.skipped = 0
        self.step = self.steps = self.global_step = 0
        self.loss = 0.0
        self.longest_silence_s = self.written_s = 0.0  # between records, and to write them
        self._activity: Activity | None = None
        self._activity_since, self._counted_since = 0.0, 0.0
        self._spent_s = dict.fromkeys(Activity, 0.0)
        self._on_wait: Callable[[], None] | None = None
        self._beaten_s = time.monotonic()
        _HEAD.pack_into(self._memory, 0, MAGIC, 0)
        self.beat()

    def beat(self) -> None:
        """Write the record; takes some microseconds."""
        self._beat += 1
        now_s = time.monotonic()
        self.longest_silence_s = max(self.longest_silence_s, now_s - self._beaten_s)
        self._beaten_s = now_s
        memory = self._memory
        _HEAD.pack_into(memory, 0, MAGIC, self._sequence + 1)
        _BODY.pack_into(
            memory,
            _HEAD.size,
            os.getpid(),
            self.rank,
            self.attempt,
            0,
            self._phase.encode()[:32],
            self._phase_since,
            self._waiting.encode()[:96],
            self._waiting_since,
            self._beat,
            now_s,
            self.done,
            self.total,
            self.unit.encode()[:16],
            self.rows,
            self.tokens,
            self.skipped,
            self.step,
            self.steps,
            self.global_step,
            self.loss,
            (self._activity or "").encode(),
            self._activity_since,
            self._counted_since,
            *self._spent_s.values(),
        )
        self._sequence += 2
        _HEAD.pack_into(memory, 0, MAGIC, self._sequence)
        self.written_s += time.monotonic() - now_s

    def beat_if_due(self) -> None:
        """Write the record if the last one is old enough, for code that runs often."""
        if time.monotonic() - self._beaten_s >= _LOOK_S:
            self.beat()

    def enter(self, phase: Phase, *, total: int = 0, unit: str = "") -> None:
        """Enter a phase; `total` is its number of `unit`s if known."""
        self._phase, self._phase_since = phase, time.monotonic()
        self.done, self.total, self.unit = 0, total, unit
        self.beat()

    @contextmanager
    def phase(self, name: Phase, *, total: int = 0, unit: str = "") -> Generator["Pulse"]:
        """Enter a phase for the duration of a block, then return to the previous one."""
        before = (self._phase, self._phase_since, self.done, self.total, self.unit)
        self.enter(name, total=total, unit=unit)
        try:
            yield self
        finally:
            self._phase, self._phase_since, self.done, self.total, self.unit = before
            self.beat()

    @contextmanager
    def importing(self, phase: Phase) -> Generator[None]:
        """Enter a phase in which this thread imports modules, and have a helper beat for it."""
        self.enter(phase, unit="modules")
        num_before = len(sys.modules)
        with self.helped(lambda: len(sys.modules) - num_before):
            yield

    @contextmanager
    def helped(self, num_done: Callable[[], int]) -> Generator[None]:
        """Have a helper beat for a library that takes seconds and cannot beat.

        The helper beats only if this thread has moved since the last look: it executes other
        code, or more is done. So a thread that waits for a lock stays silent, and so does one in
        native code that keeps the interpreter's lock. Nothing else may write the pulse meanwhile.

        Args:
            num_done: progress in the phase's unit; called by the helper.
        """
        over = threading.Event()
        arguments = (threading.get_ident(), num_done, over)
        helper = threading.Thread(target=self._beat_for, args=arguments, daemon=True)
        helper.start()
        try:
            yield
        finally:
            over.set()
            helper.join()

    def _beat_for(self, thread: int, num_done: Callable[[], int], over: threading.Event) -> None:
        last: tuple[object, ...] | None = None
        while not over.wait(_LOOK_S):
            frame = _current_frames().get(thread)
            at = (num_done(), frame.f_code, frame.f_lasti) if frame else None
            del frame  # it keeps the thread's variables alive
            if at != last:
                last = at
                self.progress(num_done())

    @contextmanager
    def waiting(self, what: str) -> Generator[None]:
        """Show what is waited for, for the duration of a block."""
        if self._on_wait:
            self._on_wait()
        before = (self._waiting, self._waiting_since)
        self._waiting, self._waiting_since = what, time.monotonic()
        self.beat()
        try:
            yield
        finally:
            self._waiting, self._waiting_since = before
            self.beat()

    def wait_for(self, what: str, since_s: float = 0.0) -> None:
        """Show what is waited for and since when, "" for nothing: for who watches somebody else."""
        self._waiting, self._waiting_since = what, since_s
        self.beat()

    def count_time(self) -> None:
        """Begin to count what the time goes to, unless it is being counted."""
        if self._counted_since:
            return
        self._counted_since = self._activity_since = time.monotonic()
        self._spent_s = dict.fromkeys(Activity, 0.0)
        self.beat()

    @contextmanager
    def activity(self, what: Activity) -> Generator[None]:
        """Count the time of a block; each second counts for the innermost activity alone."""
        outer = self._switch(what)
        try:
            yield
        finally:
            self._switch(outer)

    def _switch(self, what: Activity | None) -> Activity | None:
        before, now_s = self._activity, time.monotonic()
        if before:
            self._spent_s[before] += now_s - self._activity_since
        self._activity, self._activity_since = what, now_s
        self.beat()
        return before

    def spent(self) -> Spent:
        """What the time went to since `count_time`."""
        if not self._counted_since:
            return Spent()
        now_s = time.monotonic()
        counted = Spent(*self._spent_s.values(), total=now_s - self._counted_since)
        return counted.plus(self._activity, now_s - self._activity_since)

    @contextmanager
    def calling_before_waits(self, on_wait: Callable[[], None]) -> Generator[None]:
        """Call a function before every wait, so that gathered work is not held up by it."""
        outer, self._on_wait = self._on_wait, on_wait
        try:
            yield
        finally:
            self._on_wait = outer

    def progress(self, done: int) -> None:
        """Set the progress of the phase, in its unit."""
        self.done = done
        self.beat()


def waits_for_rows(pulse: PulseReading) -> bool:
    """Whether a process waits for the rows of a step."""
    is_data = Activity.parse(pulse.activity) is Activity.DATA
    return is_data and pulse.phase == Phase.TRAINING


def waits_for_source(reader: PulseReading) -> bool:
    """Whether the reader of a stream waits for what it reads, and not to be asked."""
    return bool(reader.waiting) and reader.waiting != ReaderWait.REQUEST


def silent_pulse(pid: int, rank: int) -> PulseReading:
    """What is known of a process that has not written its pulse yet."""
    values: dict[str, Any] = dict.fromkeys((name for name, _ in LAYOUT[2:]), 0)
    del values["pad"]
    values |= {"phase": Phase.STARTING, "waiting": "", "unit": "", "activity": ""}
    values |= {"pid": pid, "rank": rank}
    return PulseReading(**values)


def read_pulse(path: Path) -> PulseReading | None:
    """The latest complete record, or None."""
    try:
        descriptor = os.open(regular_file(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        for attempt in range(100):
            # Two reads a microsecond apart: even a busy writer leaves gaps of that length.
            data, after = os.pread(descriptor, SIZE, 0), os.pread(descriptor, _HEAD.size, 0)
            if len(data) < SIZE or data[:8] != MAGIC:
                return None
            sequence = _HEAD.unpack_from(data)[1]
            if sequence % 2 == 0 and sequence == _HEAD.unpack_from(after)[1]:
                return _reading(data)
            if attempt > 20:
                time.sleep(0.0001)  # interrupted while writing: let it finish
        return None
    finally:
        os.close(descriptor)


def _reading(data: bytes) -> PulseReading:
    names = [name for name, _ in LAYOUT[2:]]
    values = dict(zip(names, _BODY.unpack_from(data, _HEAD.size), strict=True))
    del values["pad"]
    for name in ("phase", "waiting", "unit", "activity"):
        values[name] = _text(values[name])
    return PulseReading(**values)


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="ignore")


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(descriptor, SIZE)
        return mmap.mmap(descriptor, SIZE)
    finally:
        os.close(descriptor)
