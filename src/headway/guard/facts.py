"""Facts about a guarded command: what it printed, wrote and used, as the guard saw it."""

from dataclasses import dataclass
from pathlib import Path

from headway.base.process_id import ProcessId


@dataclass(frozen=True)
class ProgressRecord:
    """What one line of output said about progress; None for what it did not say.

    Attributes:
        at_s: since the start of the command.
        step: the highest that it named: "12/100", "step 12", "'step': 12".
        total: steps of the same count, "12/100".
        epoch: may be a fraction.
        loss: as printed: nan and inf are kept.
        learning_rate: as printed.
        grad_norm: as printed.
        is_evaluation: whether it is about evaluation data (`eval_loss`, "Validating").
        is_bar: whether it is a progress bar, which is drawn again and again.
        what: the label of a bar, "" for none: "Map", "Downloading shards", "Epoch 1".
        unit: of its steps, as a bar has it: "it", "B", " examples"; "" for unknown.
        run_seconds: `train_runtime` of the trainer's closing line.
    """

    at_s: float
    step: int | None = None
    total: int | None = None
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None
    is_evaluation: bool = False
    is_bar: bool = False
    what: str = ""
    unit: str = ""
    run_seconds: float | None = None

    @property
    def is_of_training(self) -> bool:
        """Whether it says where training is or how well: not evaluation, not "Map: 45%"."""
        if self.is_evaluation:
            return False
        return self.loss is not None or self.epoch is not None or not self.is_bar or not self.what


@dataclass(frozen=True)
class TouchedFile:
    """A file that was written or changed while the command ran.

    Attributes:
        path: absolute.
        bytes: at the end.
        changed_at_s: since the start of the command, when it was last changed; 0.0 at the earliest.
        is_new: whether it was not there at the start.
    """

    path: Path
    bytes: int
    changed_at_s: float
    is_new: bool


@dataclass(frozen=True)
class MemoryReading:
    """Resident memory of all processes of the command at one moment."""

    at_s: float
    bytes: int


@dataclass(frozen=True)
class SeenStall:
    """A time in which the command made no progress.

    Attributes:
        at_s: when it was noticed, since the start of the command.
        silent_s: how long there had been no progress by then.
        cause: a value of `diagnose.diagnosis.StallCause`.
        what: in a sentence.
        evidence: the file that holds what was seen, "" if it could not be written.
        lasted_s: until it made progress or was ended, 0.0 while it lasts.
    """

    at_s: float
    silent_s: float
    cause: str
    what: str
    evidence: str = ""
    lasted_s: float = 0.0


@dataclass(frozen=True)
class Orphan:
    """A process of the command that outlived it."""

    process: ProcessId
    command: tuple[str, ...]  # credentials left out


@dataclass(frozen=True)
class GuardFacts:
    """All that the guard saw of one command, from its start to its end; restarts included.

    Attributes:
        command: its arguments, as typed.
        folder: that it ran in, absolute.
        started_s: wall clock, seconds since 1970.
        seconds: that it took.
        exit_code: its own, 128 + n for a signal.
        was_ended: whether the guard ended it (a time limit, a stall).
        was_asked_to_stop: whether a person or a system asked it to stop by a signal.
        restarts: how often the guard started it again.
        records: what its output said about progress, in order: at most some 20,000, of which the
            first and the last are kept.
        records_left_out: between those.
        num_lines: of output.
        files: written or changed under `folder` and the folders named in `output_folders`.
        output_folders: that its arguments or open files named, and that are not under `folder`.
        memory: over time, thinned to some 1,000 readings.
        stalls: in order.
        orphans: processes that outlived it.
        head: the first lines of its output.
        tail: the last lines of its output.
        cpu_seconds: of all its processes.
    """

    command: tuple[str, ...]
    folder: Path
    started_s: float
    seconds: float
    exit_code: int
    was_ended: bool = False
    was_asked_to_stop: bool = False
    restarts: int = 0
    records: tuple[ProgressRecord, ...] = ()
    records_left_out: int = 0
    num_lines: int = 0
    files: tuple[TouchedFile, ...] = ()
    output_folders: tuple[Path, ...] = ()
    memory: tuple[MemoryReading, ...] = ()
    stalls: tuple[SeenStall, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    head: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    cpu_seconds: float = 0.0
