"""Run progress: step, phase and current wait, from events and pulses.

`Progress` takes events as they arrive, at a cost that does not grow with the run, and combines
them with the last pulses into a `Status`, which every watcher shows. Nothing here touches the
machine; `live_jobs.py` finds the events and pulses.
"""

import statistics
from array import array
from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, cast

from headway.base.errors import Cause
from headway.base.events import (
    AttemptStarted,
    Ended,
    Evaluated,
    LogEntry,
    PhaseEntered,
    Probed,
    Resumed,
    StepDone,
    StepPrinted,
    StopAsked,
)
from headway.base.pulse import Phase, PulseReading, waits_for_rows
from headway.supervise.stalls.note import StallNote, StallStatus
from headway.supervise.worker_status import WorkerStatus, statuses_of

SCHEMA = "headway.status/1"
AVERAGED = 20  # steps in the average loss and, within SPEED_S, in the speed
SPEED_S = 10.0

RunState = Literal[
    "planned",  # there is a plan, and nothing has started
    "planning",  # reading the data and deciding
    "starting",  # loading what the first step needs
    "running",  # a command of another program, which has not told a step
    "training",
    "saving",
    "evaluating",
    "sampling",
    "stopping",  # a stop was requested: finishing the step and saving
    "finished",
    "interrupted",  # stopped and saved before its last step
    "failed",
    "died",  # its processes are gone without a last event
]
ENDED: frozenset[RunState] = frozenset({"finished", "interrupted", "failed", "died"})
_BY_PHASE: dict[Phase, RunState] = {
    Phase.RUNNING: "running",
    Phase.TRAINING: "training",
    Phase.SAVING: "saving",
    Phase.EVALUATING: "evaluating",
    Phase.PROBING: "evaluating",
    Phase.SAMPLING: "sampling",
}


@dataclass(frozen=True)
class Status:
    """What a run is doing and since when. Ages in seconds, losses in nats per token."""

    schema: str
    run: str
    folder: str  # "" until there is one
    state: RunState
    phase: str  # as the process reports it
    phase_since_s: float
    waiting_for: str  # "" unless it is waiting
    waiting_since_s: float
    done: int  # within the phase, out of `total` `unit`s; total 0 if unknown
    total: int
    unit: str
    step: int  # finished steps of this job
    steps: int  # planned steps of this job; 0 before there is a plan
    global_step: int
    target_global_step: int
    loss: float | None  # of the last finished step
    loss_average: float | None  # of the last 20
    tokens_per_second: float | None  # trained tokens, over the last 20 steps or 10 s
    tokens: int  # trained so far; read so far while planning
    rows: int  # as for tokens
    skipped: int  # records that could not be used
    seconds_left: float | None
    last_news_s: float | None  # since the last beat or event
    attempt: int
    pid: int  # of the supervisor
    exit_code: int | None
    line: str  # the closing line
    held_out_first: float | None
    held_out_last: float | None
    slowed_by: tuple[str, ...] = ()  # other work on this machine, if it was looked for
    workers: tuple[WorkerStatus, ...] = ()  # by rank; empty unless there are several
    stall: StallStatus | None = None  # why nothing is new, once that was looked for
    rows_read: int = 0  # while rows of a stream are waited for: by its reader so far
    tokens_read: int = 0

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.state in ENDED


@dataclass(frozen=True)
class Readings:
    """The last pulses of a job's processes."""

    planner: PulseReading | None = None
    workers: tuple[PulseReading, ...] = ()
    reader: PulseReading | None = None  # of a stream
    stall: StallNote | None = None

    @property
    def speaker(self) -> PulseReading | None:
        """The pulse that represents the job: the planner's, else the lowest rank's."""
        return self.planner or min(self.workers, key=lambda r: r.rank, default=None)

    @property
    def updated(self) -> float | None:
        """When any process last wrote its pulse, CLOCK_MONOTONIC seconds."""
        pulses = (*self.workers, self.planner) if self.planner else self.workers
        return max((pulse.updated for pulse in pulses), default=None)


@dataclass(frozen=True)
class Aim:
    """The numbers of a plan that a status needs."""

    first: int  # global step before the job
    steps: int
    seconds: float | None = None  # estimated for the whole job


@dataclass
class _Trained:
    """Running totals by step, so that steps after a checkpoint can be removed again."""

    steps: "array[int]" = field(default_factory=lambda: array("q"))
    tokens: "array[int]" = field(default_factory=lambda: array("q"))
    rows: "array[int]" = field(default_factory=lambda: array("q"))

    def add(self, event: StepDone) -> None:
        self.steps.append(event.global_step)
        self.tokens.append(self.last_tokens + event.trained_tokens)
        self.rows.append(self.last_rows + event.rows)

    def truncate(self, global_step: int) -> None:
        while self.steps and self.steps[-1] > global_step:
            for column in (self.steps, self.tokens, self.rows):
                column.pop()

    @property
    def last_tokens(self) -> int:
        return self.tokens[-1] if self.tokens else 0

    @property
    def last_rows(self) -> int:
        return self.rows[-1] if self.rows else 0


class Progress:
    """Takes a run's events one by one and gives its status at any time.

    Args:
        run: its name, "" until it is known.
        folder: its folder, "" until there is one.
        aim: what was planned, once there is a plan.
        pid: of the supervisor.
        skipped: records that could not be used, for when there is no pulse.

    Attributes:
        ended: the last event of the newest attempt; None before it.
    """

    def __init__(
        self,
        run: str = "",
        folder: str = "",
        aim: Aim | None = None,
        *,
        pid: int = 0,
        skipped: int = 0,
    ) -> None:
        self.run = run
        self.folder = folder
        self.aim = aim
        self.pid = pid
        self.skipped = skipped
        self.ended: Ended | None = None
        self._attempt = 0
        self._first = 0  # global step before the job
        self._global_step = 0
        self._trained = _Trained()
        self._recent: deque[StepDone] = deque(maxlen=AVERAGED)
        self._printed: deque[StepPrinted] = deque(maxlen=AVERAGED)
        self._stepped = False  # in this attempt
        self._phase, self._phase_at = "", ""
        self._stopping = False
        self._held_out: list[float] = []  # the first and the last
        self._last_at = ""

    @property
    def job_step(self) -> int:
        """Finished steps of the job."""
        return max(self._global_step - (self.aim.first if self.aim else self._first), 0)

    @property
    def usual_step_s(self) -> float | None:
        """Seconds of a usual step of this attempt; None before the first."""
        return statistics.median(e.seconds for e in self._recent) if self._recent else None

    def take(self, entry: LogEntry) -> None:
        """Add one event."""
        self._last_at = entry.at
        match entry.event:
            case AttemptStarted() as event:
                self._begin(event, entry.attempt)
            case Resumed(_, global_step):
                self._global_step = global_step
                self._trained.truncate(global_step)
            case PhaseEntered(phase):
                self._phase, self._phase_at = phase, entry.at
            case StepDone() as event:
                self._trained.add(event)
                self._recent.append(event)
                self._global_step, self._stepped = event.global_step, True
                self._phase, self._phase_at = "training", entry.at  # after saving and the like
            case StepPrinted() as event:
                self._printed.append(event)
                self._global_step = self._first + (event.step or 0)
            case Probed(held_out=float() as loss) | Evaluated(held_out=loss):
                self._held_out = [*self._held_out[:1], loss]
            case StopAsked():
                self._stopping = True
            case Ended() as event:
                self.ended = event
            case _:
                pass

    def _begin(self, event: AttemptStarted, attempt: int) -> None:
        if not self._attempt:
            self._first = event.from_global_step
        self._attempt, self.pid, self.run = attempt, event.pid, self.run or event.run
        self._global_step, self._stepped = event.from_global_step, False
        self._trained.truncate(event.from_global_step)
        self._recent.clear()
        self._printed.clear()
        self.ended, self._stopping = None, False
        self._phase, self._phase_at = "", ""

    def status(
        self, readings: Readings, now_s: float, *, wall_s: float | None = None, living: bool = True
    ) -> Status:
        """The status at `now_s`.

        Args:
            readings: the last pulses.
            now_s: time.monotonic().
            wall_s: time.time(), for the age of events where there is no pulse.
            living: whether the job's supervisor is running.
        """
        ended = self._last_event(living=living)
        state = self._state(readings, ended, living=living)
        speaker = None if state in ENDED else readings.speaker
        reader = readings.reader if speaker and waits_for_rows(speaker) else None
        aim = self.aim or Aim(self._first, speaker.steps if speaker else 0)
        if self._printed and not aim.steps:
            aim = replace(aim, steps=self._printed[-1].total or 0)
        losses = [event.loss for event in self._recent or self._printed if event.loss is not None]
        step = max(self._global_step - aim.first, 0)
        return Status(
            schema=SCHEMA,
            run=self.run,
            folder=self.folder,
            state=state,
            phase=speaker.phase if speaker else self._phase or state,
            phase_since_s=self._phase_age(state, speaker, now_s, wall_s),
            waiting_for=speaker.waiting if speaker else "",
            waiting_since_s=now_s - speaker.waiting_since if speaker and speaker.waiting else 0.0,
            done=speaker.done if speaker else 0,
            total=speaker.total if speaker else 0,
            unit=speaker.unit if speaker else "",
            step=step,
            steps=aim.steps,
            global_step=max(self._global_step, aim.first),
            target_global_step=aim.first + aim.steps,
            loss=losses[-1] if losses else None,
            loss_average=_mean(losses),
            tokens_per_second=_speed(self._recent),
            # A resumed job's pulse includes what earlier attempts trained.
            tokens=(speaker.tokens if speaker else 0) or self._trained.last_tokens,
            rows=(speaker.rows if speaker else 0) or self._trained.last_rows,
            skipped=speaker.skipped if speaker else self.skipped,
            seconds_left=None if state in ENDED else self._seconds_left(aim, step),
            last_news_s=_news_age(readings, self._last_at, now_s, wall_s),
            attempt=self._attempt,
            pid=self.pid,
            exit_code=ended.exit_code if ended else None,
            line=ended.line if ended else "",
            held_out_first=self._held_out[0] if self._held_out else None,
            held_out_last=self._held_out[-1] if self._held_out else None,
            workers=statuses_of(readings.workers, now_s) if state not in ENDED else (),
            stall=readings.stall.status(now_s) if speaker and readings.stall else None,
            rows_read=reader.rows if reader else 0,
            tokens_read=reader.tokens if reader else 0,
        )

    def _last_event(self, *, living: bool) -> Ended | None:
        """The run's last event, which an attempt's is not while new workers may continue."""
        cause = self.ended.finding.cause if self.ended and self.ended.finding else None
        return None if living and cause is Cause.WORKER_LOST else self.ended

    def _state(self, readings: Readings, ended: Ended | None, *, living: bool) -> RunState:
        if ended:
            return cast("RunState", ended.outcome)
        if not living:
            return "died" if self._attempt else "planned"
        if self._stopping:
            return "stopping"
        if readings.planner:
            return "planning"
        phase = readings.speaker.phase if readings.speaker else self._phase
        known = Phase.parse(phase)
        return (_BY_PHASE.get(known) if known else None) or (
            "training" if self._stepped else "starting"
        )

    def _phase_age(
        self, state: RunState, speaker: PulseReading | None, now_s: float, wall_s: float | None
    ) -> float:
        if speaker:
            return max(now_s - speaker.phase_since, 0.0)
        return _age(self._last_at if state in ENDED else self._phase_at, wall_s) or 0.0

    def _seconds_left(self, aim: Aim, step: int) -> float | None:
        """From the last steps; before the third one from the plan, as the first are slower."""
        if not aim.steps:
            return None
        if len(self._recent) >= 3:
            step_s = statistics.median(event.seconds for event in self._recent)
        elif aim.seconds is not None:
            step_s = aim.seconds / aim.steps
        else:
            return None
        return max(aim.steps - step, 0) * step_s


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _speed(recent: "deque[StepDone]") -> float | None:
    tokens, spent_s = 0, 0.0
    for event in reversed(recent):
        tokens, spent_s = tokens + event.trained_tokens, spent_s + event.seconds
        if spent_s >= SPEED_S:
            break
    return tokens / spent_s if spent_s else None


def _news_age(readings: Readings, at: str, now_s: float, wall_s: float | None) -> float | None:
    beat_s = None if readings.updated is None else max(now_s - readings.updated, 0.0)
    return min((age for age in (beat_s, _age(at, wall_s)) if age is not None), default=None)


def _age(at: str, wall_s: float | None) -> float | None:
    if not at or wall_s is None:
        return None
    return max(wall_s - datetime.fromisoformat(at).timestamp(), 0.0)


def fold(
    entries: list[LogEntry],
    readings: Readings,
    *,
    now_s: float,
    wall_s: float | None = None,
    living: bool = True,
    aim: Aim | None = None,
) -> Status:
    """The status from a whole log and the last pulses."""
    progress = Progress(aim=aim)
    for entry in entries:
        progress.take(entry)
    return progress.status(readings, now_s, wall_s=wall_s, living=living)
