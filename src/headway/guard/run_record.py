"""Record of a guarded run: its folder under runs/, guard.json, output.log, events and evidence."""

import contextlib
import os
import shlex
import time
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from headway.base.errors import Finding, MachineError, Refusal
from headway.base.events import AttemptStarted, Ended, Event, EventLog, Noted
from headway.base.files import write_lightly, write_whole
from headway.base.pulse import Pulse
from headway.base.version import __version__
from headway.diagnose.redaction import hide_arguments
from headway.guard.facts import SeenStall
from headway.guard.output_log import OutputLog
from headway.runs.watched.watched_run import WatchedRun
from headway.supervise.live.watched_job import WatchedJob

SCHEMA = "headway.guard/1"
FILE = "guard.json"


@dataclass(frozen=True)
class GuardedCommand:
    """guard.json: a command, how it went and how it ended.

    Attributes:
        command: its arguments, secrets left out.
        folder: that it ran in.
        started_at, ended_at: UTC; `ended_at` is "" while it runs.
        seconds: that it took.
        exit_code: of the guard; None while it runs.
        own_exit_code: of the command, 128 + n for a signal.
        restarts: how often it was started again.
        usual_s: between two pieces of news; None if it was never learned.
        patience_s: of the last silence.
        lines, lines_not_read: of output.
        step, total, loss: the last that its output named.
        stalls, findings: that there were.
        orphans: commands of processes that outlived it.
    """

    command: tuple[str, ...]
    folder: str
    started_at: str
    ended_at: str = ""
    seconds: float = 0.0
    exit_code: int | None = None
    own_exit_code: int | None = None
    restarts: int = 0
    usual_s: float | None = None
    patience_s: float = 0.0
    lines: int = 0
    lines_not_read: int = 0
    step: int | None = None
    total: int | None = None
    loss: float | None = None
    stalls: tuple[SeenStall, ...] = ()
    orphans: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    schema: str = SCHEMA
    version: str = __version__


@dataclass
class RunRecord:
    """Writes what the guard sees. A disk that fails never fails the command: `problem` says why.

    Attributes:
        folder: of the run; None if none could be made.
        state: guard.json as it was last written.
        problem: why something could not be written, "" if all was.
    """

    folder: Path | None
    state: GuardedCommand
    problem: str = ""
    _job: WatchedJob | None = None
    _log: EventLog | None = None
    _output: OutputLog | None = None
    _began_s: float = field(default_factory=time.monotonic)

    @classmethod
    def open(cls, name: str, command: tuple[str, ...], output_dir: Path) -> "RunRecord":
        """Make the folder of a run, NAME or NAME-2 and so on."""
        shown = hide_arguments(command)
        state = GuardedCommand(shown, str(Path.cwd()), datetime.now(UTC).isoformat())
        run = WatchedRun(name=name, by="guard", program=shlex.join(shown))
        try:
            job = WatchedJob(run, output_dir)
        except (Refusal, OSError) as error:
            what = error.what if isinstance(error, Refusal) else str(error)
            return cls(None, state, f"no folder for this run: {what}")
        record = cls(job.folder, state, "", job, job.log, OutputLog(job.folder / "output.log"))
        record.save()
        return record

    @property
    def name(self) -> str:
        """Of the run; "" if there is no folder."""
        return self.folder.name if self.folder else ""

    @property
    def pulse(self) -> Pulse:
        """What `headway status` reads; for one thread."""
        return self._job.pulse if self._job else Pulse()

    def output(self, data: bytes) -> None:
        """Keep a piece of output."""
        if self._output:
            self._output.add(data)

    def flush(self) -> None:
        """Write what output.log does not hold yet."""
        if self._output:
            self._output.flush()
            if self._output.problem and not self.problem:
                self.problem = f"output.log: {self._output.problem.strerror}"

    def event(self, event: Event) -> None:
        """Append an event."""
        with self._errors():
            if self._log:
                self._log.write(event)

    def note(self, finding: Finding) -> None:
        """Append a finding."""
        self.event(Noted(finding))

    def restarted(self, number: int) -> None:
        """Begin another attempt in the log."""
        if self.folder:
            self._log = EventLog(self.folder / "events.jsonl", attempt=number + 1, rank=0)
            self.event(AttemptStarted(self.name, __version__, os.getpid(), 0, ""))

    def save(self, **changes: object) -> None:
        """Write guard.json."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        if self.folder:
            with self._errors():
                text = msgspec.json.format(msgspec.json.encode(self.state), indent=2)
                write_lightly(self.folder / FILE, text)

    def keep_evidence(self, number: int, text: str) -> str:
        """Write stall-N.txt; returns its path, "" if it could not be written."""
        if not self.folder:
            return ""
        path = self.folder / f"stall-{number}.txt"
        with self._errors():
            write_whole(path, text.encode(errors="replace"))
            return str(path)
        return ""

    def end(self, outcome: str, exit_code: int, line: str, finding: Finding | None) -> None:
        """Write the last event, and release the run."""
        self.flush()
        if self._output:
            self._output.close()
        if self.folder:
            with self._errors():
                text = msgspec.json.format(msgspec.json.encode(self.state), indent=2)
                write_whole(self.folder / FILE, text)
        self.event(Ended(outcome, exit_code, line, finding))
        if self._job:
            self._job.close()

    @contextlib.contextmanager
    def _errors(self) -> Generator[None]:
        try:
            yield
        except (OSError, MachineError) as error:
            self.problem = self.problem or str(error).partition("\n")[0]
