"""Stall watch: silent processes noticed, explained, and named when something has to be done.

One mechanism for a planner, a single trainer and a team. It reads pulses and asks; who is killed
for it, its caller decides from what is `due`.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headway.base.errors import (
    Cause,
    Finding,
    Remedy,
)
from headway.base.events import Event, Stalled, StallEnded, find_events
from headway.base.host.suspended import suspended_s
from headway.base.machine import measured, remember
from headway.base.pulse import PulseReading, read_pulse, waits_for_rows, waits_for_source
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.runs.workers import OnStall
from headway.supervise.stalls import stall_limits
from headway.supervise.stalls.due import Due, StallRules
from headway.supervise.stalls.explainer import Explainer, Explanation, Question
from headway.supervise.stalls.hold import Hold, Holds
from headway.supervise.stalls.note import StallNote, remove_note
from headway.supervise.stalls.policy import Act, choose_act, is_accused
from headway.supervise.stalls.silence import (
    Moment,
    Silences,
    kind_of,
    waits_for_workers,
)
from headway.supervise.stalls.stall_limits import Known

LOOK_S = 0.2
_SILENT_S = 1.0  # from which it is looked at what holds a process
_AGAIN_S = 30.0  # until a cause is looked for again, and the age at which it is no longer acted on
_ANSWER_S = 20.0  # for a cause to be found
_LEARNED_S = 1.0  # of a silence that is worth being remembered


@dataclass
class _Stall:
    """A silence that was noticed."""

    pulse: PulseReading
    silent_s: float
    number: int = 0  # once it was told
    diagnosis: Diagnosis | None = None
    file: str = ""
    then: str = ""
    lacks_rows: bool = False
    asked_s: float = 0.0
    answered_s: float = 0.0


class StallWatch:
    """Watches the processes of a job by their pulses.

    Args:
        live: folder with the pulses; gets the note that says why nothing is new.
        name: of a process by its rank, as people call it.
        is_team: whether others wait for a frozen worker.
        waits_longer: how many times as long one may wait for others as it may compute.
        explainer: finds causes.
        clock: CLOCK_MONOTONIC.

    Attributes:
        rules: what it goes by.
        ending: the stall that ends the run; None while there is none.
        last_due: the newest one for which a worker was to be replaced; None before the first.
    """

    def __init__(
        self,
        live: Path,
        name: Callable[[int], str],
        *,
        is_team: bool = False,
        waits_longer: float = 1.0,
        explainer: Explainer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rules = StallRules()
        self.ending: Due | None = None
        self.last_due: Due | None = None
        self._live, self._name, self._is_team = live, name, is_team
        self._waits_longer, self._clock = waits_longer, clock
        self._explainer = explainer or Explainer()
        self._patience = stall_limits.PATIENCE
        self._silences, self._holds = Silences(), Holds()
        self._holding: dict[int, Hold] = {}
        self._known_s: dict[str, float] = {}  # the longest silences of earlier runs
        self._looked_s = float("-inf")
        self._stall: _Stall | None = None
        self._asked: _Stall | None = None  # whose answer is awaited
        self._events: list[Event] = []
        self._due: list[Due] = []
        self._num_told = 0

    def begin(self, rules: StallRules) -> None:
        """Go by other rules from now on: there is a plan, and a log of earlier stalls."""
        self.rules = rules
        if rules.run:
            log = find_events(rules.run / "events.jsonl", (Stalled,))
            numbers = [one.event.number for one in log if isinstance(one.event, Stalled)]
            self._num_told = max(numbers, default=0)

    # -- what it found -----------------------------------------------------------------------

    def take_events(self) -> list[Event]:
        """What began and ended since the last call, for the log."""
        events, self._events = self._events, []
        return events

    def take_due(self) -> list[Due]:
        """The workers that new ones have to replace, since the last call."""
        due, self._due = self._due, []
        return due

    def close(self) -> None:
        """End: remember how long healthy silences were, so that the next run knows."""
        self._end("death")
        for kind, silent_s in self._silences.longest_s.items():
            if silent_s >= _LEARNED_S:
                before_s = self._known_s.get(kind, 0.0)
                again_s = silent_s if silent_s > before_s else (silent_s + before_s) / 2
                remember(self._key(kind), again_s)

    # -- looking -----------------------------------------------------------------------------

    def look(
        self, pulses: Sequence[PulseReading], step_s: float | None, missing: Sequence[int] = ()
    ) -> None:
        """Look at the pulses once more, if it is time.

        Args:
            pulses: of all processes that run.
            step_s: seconds of a usual step; None before the first one.
            missing: ranks that are gone.
        """
        now_s = self._clock()
        if now_s - self._looked_s < LOOK_S or self.ending:
            return
        self._looked_s = now_s
        if self._stall:
            self._stall.silent_s = self._silences.seen_s(self._stall.pulse.rank)
        moment = self._moment(pulses, now_s)
        moved = self._silences.look(pulses, moment, self._stalled(pulses))
        ranks = {pulse.rank for pulse in pulses}
        if self._stall and (self._stall.pulse.rank in moved or self._stall.pulse.rank not in ranks):
            self._end("itself" if self._stall.pulse.rank in ranks else "death")
        self._take_answer(now_s)
        late = self._silences.late(pulses, lambda one: self._notice_s(one, step_s))
        if self._stall is None and late:
            blamed = next(one for one in pulses if one.rank == late[0].rank)
            self._stall = _Stall(blamed, late[0].silent_s)
        if self._stall and now_s >= self._ask_again_s(self._stall):
            self._ask(self._stall, pulses, missing, now_s)
        self._find_due(pulses, step_s, now_s)

    def _moment(self, pulses: Sequence[PulseReading], now_s: float) -> Moment:
        silent = [p.pid for p in pulses if self._silences.seen_s(p.rank) >= _SILENT_S]
        self._holding = self._holds.look(silent, now_s)
        counted = {pid: hold.counted for pid, hold in self._holding.items()}
        return Moment(now_s, suspended_s(), counted)

    def _stalled(self, pulses: Sequence[PulseReading]) -> set[int]:
        """The ranks whose silence is not healthy."""
        stall, stopped = self._stall, {p.rank for p in pulses if self._hold(p).is_stopped}
        accused = stall and stall.diagnosis and self._is_accused(stall, stall.diagnosis)
        return stopped | ({stall.pulse.rank} if stall and accused else set())

    def _hold(self, pulse: PulseReading) -> Hold:
        return self._holding.get(pulse.pid, Hold())

    def _notice_s(self, pulse: PulseReading, step_s: float | None) -> float:
        if self._hold(pulse).is_stopped:
            return self._patience.stopped_s
        return self._longer(pulse) * self._patience.notice_s(pulse, self._known(pulse, step_s))

    def _end_s(self, pulse: PulseReading, step_s: float | None) -> float:
        if self._hold(pulse).is_stopped:
            return self._patience.stopped_s if self._is_team else self._patience.ended_s
        if pulse.waiting and not self.rules.ends_waits:
            return math.inf
        return self._longer(pulse) * self._patience.end_s(pulse, self._known(pulse, step_s))

    def _known(self, pulse: PulseReading, step_s: float | None) -> Known:
        kind = kind_of(pulse)
        if kind not in self._known_s:
            self._known_s[kind] = measured(self._key(kind)) or 0.0
        return Known(step_s, self._silences.longest_s.get(kind, 0.0), self._known_s[kind])

    def _longer(self, pulse: PulseReading) -> float:
        return self._waits_longer if waits_for_workers(pulse) else 1.0

    def _key(self, kind: str) -> str:
        return f"silence|{self.rules.about}|{kind}"

    # -- explaining --------------------------------------------------------------------------

    def _ask_again_s(self, stall: _Stall) -> float:
        """When the cause is looked for; the longer it lasts, the less often."""
        return stall.asked_s + max(_AGAIN_S, stall.silent_s / 2) if stall.asked_s else 0.0

    def _ask(
        self, stall: _Stall, pulses: Sequence[PulseReading], missing: Sequence[int], now_s: float
    ) -> None:
        if self._explainer.is_busy:
            return
        stall.asked_s, self._asked = now_s, stall
        blamed = stall.pulse
        others = [one for one in pulses if one.rank != blamed.rank]
        reader = read_pulse(self._live / "reader.pulse")
        # Who waits for rows only looks for them again and again: what keeps the reader counts.
        stall.lacks_rows = bool(reader and waits_for_rows(blamed) and waits_for_source(reader))
        asked = [reader] if reader and stall.lacks_rows else [blamed, *others]
        run = self.rules.run
        number = stall.number or self._num_told + 1
        question = Question(
            pids=tuple(one.pid for one in asked),
            roles={one.pid: self._name(one.rank) for one in pulses}
            | ({reader.pid: "the reader"} if reader else {}),
            pulses=(*pulses, *((replace(reader, rank=-1),) if reader else ())),
            folders=(self._live, run) if run else (self._live,),
            silent_s=stall.silent_s,
            missing=tuple(missing),
            file=run / f"stall-{number}.txt" if run else None,
        )
        self._explainer.ask(question)

    def _take_answer(self, now_s: float) -> None:
        answer = self._explainer.take()
        stall = self._stall
        if answer is None or stall is None or self._asked is not stall:
            return  # it has made progress meanwhile
        before, stall.diagnosis, stall.answered_s = stall.diagnosis, answer.diagnosis, now_s
        self._tell(stall, answer, before)

    def _tell(self, stall: _Stall, answer: Explanation, before: Diagnosis | None) -> None:
        """Log a stall, and publish why nothing is new."""
        found = answer.diagnosis
        stall.file = answer.file or stall.file
        if found.cause is StallCause.HEALTHY:
            remove_note(self._live)
            return
        is_stall = self._is_accused(stall, found) and not self._hold(stall.pulse).is_traced
        if is_stall and not (stall.number and before and before.cause is found.cause):
            self._log_stall(stall, found)
        self._publish(stall, found, is_stall=is_stall)

    def _is_accused(self, stall: _Stall, found: Diagnosis) -> bool:
        """Whether it is a stall of the job's own; a source that sends nothing is none."""
        is_outside = stall.lacks_rows and found.cause is not StallCause.STOPPED
        return is_accused(found) and not is_outside

    def _log_stall(self, stall: _Stall, found: Diagnosis) -> None:
        if not stall.number:
            self._num_told += 1
            stall.number = self._num_told
        self._events.append(
            Stalled(
                number=stall.number,
                role=self._name(stall.pulse.rank),
                cause=str(found.cause),
                seconds=round(stall.silent_s, 3),
                doing=_doing(stall.pulse),
                diagnosis=found.finding,
                file=stall.file,
            )
        )

    def _publish(self, stall: _Stall, found: Diagnosis, *, is_stall: bool) -> None:
        StallNote(
            cause=found.cause,
            finding=found.finding,
            is_stall=is_stall,
            role=self._name(stall.pulse.rank),
            since=self._looked_s - stall.silent_s,
            then=stall.then,
            file=stall.file,
        ).publish(self._live)

    def _end(self, by: str) -> None:
        """A silence is over."""
        stall, self._stall = self._stall, None
        remove_note(self._live)
        if stall and stall.number and stall.diagnosis:
            cause = str(stall.diagnosis.cause)
            self._events.append(StallEnded(stall.number, cause, round(stall.silent_s, 3), by))

    # -- acting ------------------------------------------------------------------------------

    def _find_due(self, pulses: Sequence[PulseReading], step_s: float | None, now_s: float) -> None:
        late = self._silences.late(pulses, lambda one: self._end_s(one, step_s), counted=True)
        stall = self._stall
        if not late or stall is None or self.ending:
            return
        diagnosis = self._fresh(stall, now_s)
        if diagnosis is None:
            return
        by_rank = {pulse.rank: pulse for pulse in pulses}
        for one in late:
            pulse = by_rank[one.rank]
            act = choose_act(self.rules.on_stall, diagnosis, pulse)
            lacks_rows = waits_for_rows(pulse) and not self._is_accused(stall, diagnosis)
            if lacks_rows and act is Act.RESTART:  # new workers would wait for the same rows
                act = Act.STOP
            due = Due(one, act, diagnosis, self._hold(pulse).is_stopped, lacks_rows)
            match act:
                case Act.WAIT:
                    self._say(stall, diagnosis, _why_it_waits(self.rules.on_stall, diagnosis))
                case Act.RESTART:
                    self.last_due = due
                    self._due.append(due)
                case Act.STOP:
                    self.ending = due
        if self.ending or self._due:
            if not stall.number and not (self.ending and self.ending.lacks_rows):
                self._log_stall(stall, diagnosis)
            stall.diagnosis = diagnosis
            self._end("stop" if self.ending else "restart")

    def _fresh(self, stall: _Stall, now_s: float) -> Diagnosis | None:
        """Why it is not making progress now; None while that is being found out."""
        waits = bool(stall.then)  # as was decided before
        if stall.diagnosis and (waits or now_s - stall.answered_s < _AGAIN_S):
            return stall.diagnosis
        if stall.asked_s and self._asked is stall and self._explainer.is_busy:
            if now_s - stall.asked_s < _ANSWER_S:
                return None
            return stall.diagnosis or _UNKNOWN
        stall.asked_s = 0.0  # at the next look
        return None

    def _say(self, stall: _Stall, diagnosis: Diagnosis, then: str) -> None:
        if stall.then != then:
            stall.then = then
            self._publish(stall, diagnosis, is_stall=bool(stall.number))


_UNKNOWN = Diagnosis(
    StallCause.UNKNOWN,
    Finding(
        "warning",
        "no progress, for an unknown reason",
        need="a process that makes progress",
        remedies=(Remedy("the same command again", "continues from the last checkpoint"),),
        cause=Cause.STALLED,
    ),
    Helps.RESTART,
)


def _why_it_waits(on_stall: OnStall, diagnosis: Diagnosis) -> str:
    if on_stall == "wait":
        return "waiting: --on-stall wait"
    if diagnosis.helps is Helps.PERSON:
        return "waiting: only a person can change this"
    return "waiting: this ends by itself"


def _doing(pulse: PulseReading) -> str:
    return f"waiting for {pulse.waiting}" if pulse.waiting else str(pulse.phase)
