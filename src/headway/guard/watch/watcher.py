"""Watcher: a thread next to the relay that says what a silent command does, and why it stalls."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from headway.base.errors import Finding
from headway.base.events import StepPrinted
from headway.base.pulse import Phase
from headway.base.units import seconds
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.guard.command.orphans import descendants
from headway.guard.command.outlet import Outlet
from headway.guard.facts import MemoryReading, ProgressRecord, SeenStall
from headway.guard.output_lines import OutputLines
from headway.guard.run_record import RunRecord
from headway.guard.watch.activity import (
    Counters,
    TreeActivity,
    activity_between,
    read_counters,
)
from headway.guard.watch.rhythm import Rhythm
from headway.guard.watch.silence import SPEAKS_AFTER_S, doing, is_due, silence_line
from headway.guard.watch.stall import Look, look_closely

_TICK_S = 0.5
_GAP_S = 3.0  # a tick that comes so late was stopped, or the machine slept
_RARELY_S = 5.0  # between two looks at a command that prints
_WINDOW_S = 4.0  # over which rates are reported
_MOST_MEMORY = 1000  # readings
_LOOK_S = 2.0  # that a close look takes, at most
_WHERE_AFTER_S = 4.5  # of silence, from which the function is looked up
_FRESH_S = 10.0  # for which a close look says where a command is
_WHERE_EVERY_S = 60.0  # between two of these
_ACTS_AFTER_S, _ACTS_TIMES = 300.0, 5.0


@dataclass(frozen=True)
class WatchListener:
    """Who a watcher tells what.

    Attributes:
        stalled: called when a stall is noticed.
        must_end: called when it has lasted long enough to be acted upon, if it may be.
        lines: makes the lines that a finding is shown as.
    """

    stalled: Callable[[SeenStall, Finding], None]
    must_end: Callable[[Diagnosis], None]
    lines: Callable[[Finding], Sequence[str]]


@dataclass
class _Silence:
    """One silence: from the last output to the next."""

    told_s: float = 0.0
    looked_s: float = 0.0  # silence at the last close look
    next_look_s: float = 0.0
    look_at_s: float = 0.0  # by the clock
    look: Look | None = None
    stall: SeenStall | None = None
    is_told: bool = False  # a cause that is not a stall
    acted: bool = False


@dataclass
class Watcher:
    """Watches one command through all its attempts.

    Args:
        lines: what it prints.
        keeper: pid that everything it starts is below.
        record: its run.
        outlet: where lines are shown.
        rhythm: learns when it says something.
        listener: who is told.
        folders: whose disks matter.
        is_blocked: whether nobody takes its output.
        look: examines and explains.

    Attributes:
        stalls: that there were.
        memory: of its processes, over time.
        latest: the last step, total, loss and learning rate.
    """

    lines: OutputLines
    keeper: int
    record: RunRecord
    outlet: Outlet
    rhythm: Rhythm
    listener: WatchListener
    folders: tuple[Path, ...] = ()
    is_blocked: Callable[[], bool] = lambda: False
    look: Callable[[Sequence[int], Sequence[Path], float], Look] = look_closely
    clock: Callable[[], float] = time.monotonic
    stalls: list[SeenStall] = field(default_factory=list[SeenStall])
    memory: list[MemoryReading] = field(default_factory=list[MemoryReading])
    latest: ProgressRecord = field(default_factory=lambda: ProgressRecord(0.0))
    best_step: float | None = None
    _counters: deque[Counters] = field(default_factory=lambda: deque[Counters](maxlen=12))

    def __post_init__(self) -> None:
        self._began_s = self._ticked_s = self._active_s = self.clock()
        self._sampled_s = self._flushed_s = self._said_s = 0.0
        self._silence = _Silence()
        self._logged = ProgressRecord(0.0)
        self._over = threading.Event()
        self._is_running = False
        self._memory_every_s = _RARELY_S
        self._problem_told = False
        self._phase: Phase | None = None
        self._where_s = -_WHERE_EVERY_S
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    # -- from the relay's thread

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def attempt_began(self) -> None:
        """A command was started, for the first time or again."""
        now_s = self.clock()
        self.lines.restart_clock(now_s - self.lines.last_output_s)
        self.latest, self.best_step = ProgressRecord(0.0), None
        self._active_s, self._is_running = now_s, True

    def attempt_ended(self) -> None:
        """It has ended: nothing is a silence until the next one."""
        self._is_running = False

    def paused(self, gap_s: float) -> None:
        """The whole job was stopped for a time."""
        self.lines.restart_clock(gap_s)
        self.rhythm.restart_clock(gap_s)
        self._active_s += gap_s

    def take(self, record: ProgressRecord) -> None:
        """A record of progress; `latest` and the furthest step follow it."""
        if not record.is_of_training:
            return
        names = ("step", "total", "epoch", "loss", "learning_rate", "grad_norm")
        new = {name: value for name in names if (value := getattr(record, name)) is not None}
        self.latest = replace(self.latest, at_s=record.at_s, **new)
        if record.step is not None:
            # A bar may begin again in each epoch.
            reached = record.step + (self.latest.epoch or 0.0) * 1e7
            self.best_step = max(reached, self.best_step or 0.0)

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join(timeout=5.0)
        self._log_step()
        self._end_stall()

    # -- the thread

    def _watch(self) -> None:
        while not self._over.wait(_TICK_S):
            now_s = self.clock()
            late_s, self._ticked_s = now_s - self._ticked_s - _TICK_S, now_s
            if late_s > _GAP_S:
                self.paused(late_s)
            self.tick(now_s)

    def tick(self, now_s: float) -> None:
        """Look once."""
        output_s, news_s = self.lines.last_output_s, self.lines.last_news_s
        if self._silence.stall:
            self.rhythm.skip_to(news_s)
        else:
            self.rhythm.news(news_s)
        silent_s, no_news_s = now_s - output_s, now_s - news_s
        if no_news_s < _TICK_S * 2 and self._silence.told_s + self._silence.looked_s > 0:
            self._end_stall()
            self._silence = _Silence()
        self._sample(now_s, often=no_news_s >= 1.0)
        self._publish(now_s, no_news_s)
        if not self._is_running:
            return
        if self.is_blocked():
            self.paused(_TICK_S)  # it waits for the reader of its output
            return
        if no_news_s >= SPEAKS_AFTER_S:
            self._be_silent(now_s, silent_s, no_news_s)

    def _sample(self, now_s: float, *, often: bool) -> None:
        if now_s - self._sampled_s < (_TICK_S if often else _RARELY_S):
            return
        self._sampled_s = now_s
        before = self._counters[-1] if self._counters else None
        counters = read_counters(descendants(self.keeper), now_s)
        self._counters.append(counters)
        if before and not activity_between(before, counters).is_idle:
            self._active_s = now_s
        if not self.memory or now_s - self._began_s - self.memory[-1].at_s >= self._memory_every_s:
            self.memory.append(MemoryReading(now_s - self._began_s, counters.memory_bytes))
            if len(self.memory) >= _MOST_MEMORY:
                del self.memory[1::2]
                self._memory_every_s *= 2

    def _activity(self, now_s: float) -> TreeActivity:
        """Of the last seconds."""
        if len(self._counters) < 2:
            return TreeActivity(1.0)
        since_s = max(
            now_s - _WINDOW_S, self.lines.last_news_s
        )  # what came before is another story
        recent = [one for one in self._counters if one.at_s >= since_s]
        first = recent[0] if len(recent) > 1 else self._counters[-2]
        return activity_between(first, self._counters[-1])

    def _publish(self, now_s: float, no_news_s: float) -> None:
        """Bring the run's folder and pulse up to date."""
        pulse = self.record.pulse
        phase = Phase.TRAINING if self.latest.step is not None else Phase.RUNNING
        if phase != self._phase:
            self._phase = phase
            pulse.enter(phase)
        if no_news_s >= SPEAKS_AFTER_S and self._is_running:
            activity = self._activity(now_s)
            what = "output" if activity.is_idle else f"output ({doing(activity)})"
            pulse.wait_for(what, self.lines.last_news_s)
        elif no_news_s <= 2 * _TICK_S:
            pulse.wait_for("")
        if now_s - self._flushed_s >= 2.0:
            self._flushed_s = now_s
            self.record.flush()
            self._log_step()
            if self.record.problem and not self._problem_told:
                self._problem_told = True
                self.outlet.say([f"headway: {self.record.problem}; the command continues"])

    def _log_step(self) -> None:
        latest = self.latest
        if latest == self._logged or latest.at_s == 0.0:
            return
        self._logged = latest
        self.record.event(
            StepPrinted(latest.step, latest.total, latest.epoch, latest.loss, latest.learning_rate)
        )

    def _be_silent(self, now_s: float, silent_s: float, no_news_s: float) -> None:
        silence, patience_s = self._silence, self.rhythm.patience_s
        quiet_s = now_s - max(self.lines.last_news_s, self._active_s)
        ahead_s = min(_LOOK_S, patience_s / 4)
        due_s = max(patience_s - ahead_s, silence.next_look_s)
        if no_news_s >= due_s and not silence.stall:
            self._look(no_news_s, quiet_s, patience_s)
            return
        stays = not self.outlet.on_terminal
        if silence.stall:
            self._act(now_s, patience_s)
        elif is_due(silent_s, silence.told_s, stays=stays, usual_s=self.rhythm.usual_s):
            if silent_s >= _WHERE_AFTER_S and now_s - self._where_s >= _WHERE_EVERY_S:
                self._where_s = now_s
                silence.look = self._try_to_look(no_news_s)
                now_s = silence.look_at_s = self.clock()
                silent_s = now_s - self.lines.last_output_s
                if silent_s < SPEAKS_AFTER_S or not self._is_running:
                    return  # it has printed something, or ended, meanwhile
            self._tell(now_s, silent_s)

    def _tell(self, now_s: float, silent_s: float) -> None:
        """One dim line about what it is doing."""
        silence, look = self._silence, self._silence.look
        if look and now_s - silence.look_at_s > _FRESH_S:
            look = None  # it may be somewhere else by now
        what = doing(
            self._activity(now_s), look.where if look else "", look.gpu_busy if look else 0.0
        )
        if self.outlet.show(silence_line(silent_s, what)):
            silence.told_s = silent_s

    def _try_to_look(self, silent_s: float) -> Look | None:
        try:
            return self.look(descendants(self.keeper), self.folders, silent_s)
        except Exception as error:
            self.record.problem = self.record.problem or f"cannot examine the command: {error}"
            return None

    def _look(self, no_news_s: float, quiet_s: float, patience_s: float) -> None:
        """Look closely, and say what is found once patience is over."""
        silence = self._silence
        silence.looked_s = no_news_s
        silence.next_look_s = 2 * max(no_news_s, patience_s)
        news_s = self.lines.last_news_s
        began_s = self.clock()
        look = self._try_to_look(no_news_s)
        left_s = patience_s - no_news_s - (self.clock() - began_s)
        if left_s > 0 and self._over.wait(left_s):
            return
        if look is None or self.lines.last_news_s != news_s or not self._is_running:
            return  # it has gone on, or ended
        silence.look, silence.look_at_s = look, self.clock()
        is_idle = quiet_s >= patience_s - _LOOK_S - _TICK_S
        silent_s = no_news_s + self.clock() - began_s
        if look.is_stall(is_idle=is_idle):
            self._stalled(look, silent_s)
        elif look.is_worth_telling and is_idle and not silence.is_told:
            silence.is_told = True
            self.outlet.say(
                self._head(silent_s) + list(self.listener.lines(look.diagnosis.finding))
            )
            self.record.note(look.diagnosis.finding)
        else:
            self._tell(self.clock(), silent_s)

    def _head(self, silent_s: float) -> list[str]:
        return [f"headway: no progress for {seconds(silent_s)}"]

    def _stalled(self, look: Look, silent_s: float) -> None:
        finding = look.diagnosis.finding
        number = len(self.stalls) + 1
        evidence = self.record.keep_evidence(number, look.text)
        stall = SeenStall(
            self.clock() - self._began_s, silent_s, look.diagnosis.cause, finding.what, evidence
        )
        self._silence.stall = stall
        self.stalls.append(stall)
        more = [f"  all stacks: {evidence}"] if evidence else []
        self.outlet.say([*self._head(silent_s), *self.listener.lines(finding), *more])
        self.record.note(finding)
        self.record.save(stalls=tuple(self.stalls))
        self.listener.stalled(stall, finding)

    def _act(self, now_s: float, patience_s: float) -> None:
        """Have a stall ended that has lasted too long."""
        look, silence = self._silence.look, self._silence
        if look is None or silence.acted:
            return
        asked_s = self.rhythm.stall_after_s
        limit_s = asked_s or max(_ACTS_AFTER_S, _ACTS_TIMES * patience_s)
        waited_s = now_s - self.lines.last_news_s
        diagnosis = look.diagnosis
        helps = diagnosis.helps is Helps.RESTART or diagnosis.cause is StallCause.UNKNOWN
        if helps and waited_s >= limit_s:
            silence.acted = True
            self.listener.must_end(diagnosis)

    def _end_stall(self) -> None:
        """It has made progress, or ended: say how long it lasted."""
        stall, self._silence.stall = self._silence.stall, None
        if stall is None or not self.stalls:
            return
        began_s = stall.at_s - stall.silent_s
        lasted_s = max(self.clock() - self._began_s - began_s, stall.silent_s)
        self.stalls[-1] = replace(stall, lasted_s=lasted_s)
        if self._is_running:
            self.outlet.say([f"headway: moving again after {seconds(lasted_s)}"])
