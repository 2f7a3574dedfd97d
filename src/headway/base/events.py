"""Events of a run, and the append-only log events.jsonl.

An event is one line, written with one O_APPEND write under 4 KiB, so that the supervisor and all
workers share the file without a lock. Watchers only read.
"""

import math
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast, get_type_hints

import msgspec

from headway.base.errors import Finding
from headway.base.files import append_line

MAX_LINE_BYTES = 4096


class Event:
    """Base of all events: frozen dataclasses of plain values."""


@dataclass(frozen=True)
class AttemptStarted(Event):
    """A supervisor started or resumed the run."""

    run: str
    version: str
    pid: int
    from_global_step: int
    resumed_from: str  # the checkpoint's folder name, "" for the first start
    restarts: int = 0  # by the supervisor itself, since a person started it
    after: str = ""  # what happened to the workers before; "" if a person started it


@dataclass(frozen=True)
class Resumed(Event):
    """The trainer continues from a verified checkpoint."""

    resumed_from: str  # the checkpoint's folder name
    global_step: int


@dataclass(frozen=True)
class PhaseEntered(Event):
    """The trainer entered another phase (loading, training, saving, ...)."""

    phase: str


@dataclass(frozen=True)
class Probed(Event):
    """Losses before or after training, in eval mode, in nats per trained token."""

    when: str  # before | after
    train_probe: float
    held_out: float | None


@dataclass(frozen=True)
class StepDone(Event):
    """One optimizer step, after its update was applied."""

    step: int  # of this job, counted from 1
    global_step: int
    epoch: int
    loss: float  # nats per trained token, mean over the batch
    grad_norm: float
    learning_rate: float
    rows: int
    trained_tokens: int
    input_tokens: int
    computed_tokens: int  # in the linear layers: padding adds, sharing saves
    seconds: float
    row_sum: int | None = None  # sum of hash64(row, epoch) over its rows; None in old logs
    workers: int = 1  # that computed it
    all_workers: int = 1  # of the run
    groups: int = 1  # with a worker that computed it
    all_groups: int = 1
    replayed: int = 0  # rows of earlier runs beside them
    replay_sum: int = 0  # sum of hash64(row, 0) over these, modulo 2**64


@dataclass(frozen=True)
class StepPrinted(Event):
    """What the output of another program said last about its progress; None for what it did not."""

    step: int | None
    total: int | None
    epoch: float | None
    loss: float | None
    learning_rate: float | None


@dataclass(frozen=True)
class Refined(Event):
    """The measured estimate for the whole job, after step 3."""

    seconds: float
    tokens_per_second: float


@dataclass(frozen=True)
class Evaluated(Event):
    """Held-out loss between two steps, nats per trained token."""

    global_step: int
    held_out: float
    rows: int
    seconds: float


@dataclass(frozen=True)
class Sampled(Event):
    """A sample generated between two steps."""

    global_step: int
    prompt: str
    text: str


@dataclass(frozen=True)
class Saved(Event):
    """A checkpoint was written, read back and renamed to its final name."""

    global_step: int
    checkpoint: str
    bytes: int
    seconds: float
    stall: float = 0.0  # seconds of these without a training step


@dataclass(frozen=True)
class Noted(Event):
    """A finding for the user that changes nothing."""

    finding: Finding


@dataclass(frozen=True)
class Stalled(Event):
    """A process of the run is not making progress; logged again when another cause is found."""

    number: int  # of the stall, counted from 1 over the whole run
    role: str  # the process that is to blame, as people call it
    cause: str  # see `StallCause`
    seconds: float  # without anything new, so far
    doing: str  # its phase, or what it waits for
    diagnosis: Finding  # the cause and its fix
    file: str  # in the run's folder, with all that was seen; "" if it could not be written


@dataclass(frozen=True)
class StallEnded(Event):
    """A stall is over."""

    number: int
    cause: str
    lasted: float  # seconds
    end: str  # itself | death | restart | stop


@dataclass(frozen=True)
class StopAsked(Event):
    """The run was asked to stop, by a signal or a setting."""

    by: str
    doing: str = ""  # the phase or the wait that it was in; "" between two steps


@dataclass(frozen=True)
class Ended(Event):
    """The last event of an attempt."""

    outcome: str  # finished | interrupted | failed
    exit_code: int
    line: str  # the final line, as on the screen
    finding: Finding | None = None


KINDS: dict[str, type[Event]] = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower(): kind
    for kind in (
        AttemptStarted,
        Resumed,
        PhaseEntered,
        Probed,
        StepDone,
        StepPrinted,
        Refined,
        Evaluated,
        Sampled,
        Saved,
        Noted,
        Stalled,
        StallEnded,
        StopAsked,
        Ended,
    )
}
NAMES = {kind: name for name, kind in KINDS.items()}
_FLOATS = {
    kind: [name for name, hint in get_type_hints(kind).items() if hint is float]
    for kind in KINDS.values()
}


@dataclass(frozen=True)
class LogEntry:
    """One line of the log."""

    at: str  # UTC, ISO 8601
    t: float  # seconds since the attempt began
    attempt: int
    rank: int
    event: Event


@dataclass
class EventLog:
    """Writer of events.jsonl, one per process.

    Args:
        path: the log's file.
        attempt: 1 for the first start of the run, plus 1 for each resume.
        rank: -1 for the supervisor.
        began_s: time.monotonic() at the start of the attempt, the same in all its processes.

    Attributes:
        written_s: seconds that writing took.
    """

    path: Path
    attempt: int = 1
    rank: int = -1
    began_s: float = field(default_factory=time.monotonic)
    written_s: float = field(default=0.0, init=False)

    def write(self, event: Event) -> None:
        """Append one event. Long texts are cut, the line never is."""
        begin_s = time.monotonic()
        line = self._line(event)
        for longest in (600, 200, 60, 20):  # bytes per text; an escaped byte takes up to six
            if len(line) < MAX_LINE_BYTES:
                break
            line = self._line(_shortened(event, longest))
        append_line(self.path, line)
        self.written_s += time.monotonic() - begin_s

    def _line(self, event: Event) -> bytes:
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        t = round(time.monotonic() - self.began_s, 3)
        return entry_json(LogEntry(at, t, self.attempt, self.rank, event))


def entry_json(entry: LogEntry) -> bytes:
    """One line of the log, without its newline."""
    head = {
        "at": entry.at,
        "t": entry.t,
        "attempt": entry.attempt,
        "rank": entry.rank,
        "event": NAMES[type(entry.event)],
    }
    return msgspec.json.encode(head | cast("dict[str, Any]", msgspec.to_builtins(entry.event)))


def _shortened(event: Event, longest: int) -> Event:
    plain = cast("dict[str, Any]", msgspec.to_builtins(event))
    return msgspec.convert(_cut(plain, longest), type(event))


def _cut(value: Any, longest: int) -> Any:
    match value:
        case str() if len(value.encode()) > longest:
            return value.encode()[:longest].decode(errors="ignore") + " [cut]"
        case dict():
            return {k: _cut(v, longest) for k, v in cast("dict[str, Any]", value).items()}
        case list() | tuple():
            return [_cut(v, longest) for v in cast("Sequence[Any]", value)[:4]]
        case _:
            return value


def read_entry(line: bytes) -> LogEntry | None:
    """Parse one line; None for a broken line or an unknown event."""
    try:
        plain = msgspec.json.decode(line, type=dict[str, Any])
        kind = KINDS.get(plain["event"])
        if kind is None:
            return None
        # JSON has no NaN and infinity: they are written as null.
        for name in _FLOATS[kind]:
            plain[name] = math.nan if plain.get(name) is None else plain[name]
        event = msgspec.convert(plain, kind)
        return LogEntry(plain["at"], plain["t"], plain["attempt"], plain["rank"], event)
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, UnicodeDecodeError):
        return None


class EventReader:
    """Reader that returns each complete line once, while the file grows.

    Attributes:
        num_lost: how often the file was deleted or replaced after some of it was read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_lost = 0
        self._file = 0  # inode
        self._offset = 0
        self._rest = b""

    def new(self) -> Iterator[LogEntry]:
        """The entries since the last call; an incomplete line waits for the next one."""
        try:
            with self.path.open("rb") as file:
                now = os.fstat(file.fileno())
                if now.st_size < self._offset or self._file not in (0, now.st_ino):
                    self._begin_again()  # a new file under the same name
                self._file = now.st_ino
                file.seek(self._offset)
                data = self._rest + file.read()
                self._offset = file.tell()
        except FileNotFoundError:
            if self._file:
                self._begin_again()
            return
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            entry = read_entry(line)
            if entry:
                yield entry

    def _begin_again(self) -> None:
        self.num_lost += 1
        self._file, self._offset, self._rest = 0, 0, b""


def read_events(path: Path) -> list[LogEntry]:
    """The whole log, without the steps that a later attempt repeated."""
    entries = list(EventReader(path).new())
    # The supervisor logs the newest checkpoint, the trainer the one that verified.
    starts = ((i, _start(entry.event)) for i, entry in enumerate(entries))
    resumes = [(i, start) for i, start in starts if start is not None]

    def stands(index: int, entry: LogEntry) -> bool:
        step = getattr(entry.event, "global_step", None)
        return step is None or all(i < index or step <= start for i, start in resumes)

    return [entry for i, entry in enumerate(entries) if stands(i, entry)]


def find_events(path: Path, kinds: Sequence[type[Event]]) -> list[LogEntry]:
    """The entries of some kinds, without parsing the others; none if there is no log."""
    marks = tuple(f'"event":"{NAMES[kind]}"'.encode() for kind in kinds)
    try:
        with path.open("rb") as file:
            lines = [line for line in file if any(mark in line for mark in marks)]
    except FileNotFoundError:
        return []
    found = map(read_entry, lines)
    return [entry for entry in found if entry and isinstance(entry.event, tuple(kinds))]


def _start(event: Event) -> int | None:
    match event:
        case AttemptStarted(from_global_step=step) | Resumed(global_step=step):
            return step
        case _:
            return None
