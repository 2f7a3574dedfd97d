"""Stall limits: how long a process may show nothing new until it is noticed, and until it is ended.

What it does decides, and in training the run's own steps do. Noticing costs half a second of one
core and accuses nobody, so it is early; ending costs the steps since the last checkpoint, so it is
late.
"""

from dataclasses import dataclass

from headway.base.pulse import Phase, PulseReading, waits_for_rows

# Phases whose work beats many times a second, whatever its size.
_BEATING = {
    Phase.TRAINING,
    Phase.FINDING_DATA,
    Phase.READING,
    Phase.TOKENIZING,
    Phase.PLANNING,
    Phase.DOWNLOADING_MODEL,
    Phase.HASHING_MODEL,
    Phase.EVALUATING,
    Phase.PROBING,
    Phase.SAMPLING,
}
_SLOW = {Phase.COMPILING, Phase.TRAINING_TOKENIZER, Phase.CONVERTING_MODEL}


@dataclass(frozen=True)
class Known:
    """What is known of how long things take here.

    Attributes:
        step_s: seconds of a usual step; None before the first one.
        gap_s: the longest silence that this run got over by itself in such a phase.
        earlier_s: the same of earlier runs.
    """

    step_s: float | None = None
    gap_s: float = 0.0
    earlier_s: float = 0.0


@dataclass(frozen=True)
class Patience:
    """Limits in seconds, and in usual steps.

    Attributes:
        beating_s: until it is noticed, in a phase that beats often.
        phase_s: in one that loads or writes as much as the model has.
        slow_s: in one whose work is a single call of a library.
        steps: in training: usual steps,
        most_s: at most so long, unless a usual step is longer than half of it.
        first_s: in the first step, which allocates and compiles.
        gaps: times the longest silence that this phase got over by itself.
        ended_steps: until it is ended, in training: usual steps,
        ended_s: however short they are,
        ended_gaps: times the longest silence that this run got over by itself.
        ended_first_s: for the first step and for the rows of any step.
        ended_other_s: for anything else.
        stopped_s: for a frozen worker that others wait for.
    """

    beating_s: float = 10.0
    phase_s: float = 30.0
    slow_s: float = 120.0
    first_s: float = 60.0
    steps: float = 10.0
    most_s: float = 300.0
    gaps: float = 3.0
    ended_steps: float = 20.0
    ended_s: float = 60.0
    ended_gaps: float = 2.0
    ended_first_s: float = 600.0
    ended_other_s: float = 1800.0
    stopped_s: float = 5.0

    def notice_s(self, pulse: PulseReading, known: Known) -> float:
        """How long a process may stay as it is now before it is noticed."""
        gap_s = max(known.gap_s, known.earlier_s)
        limit_s = max(self._usual_s(pulse, known.step_s), self.gaps * gap_s)
        return min(limit_s, 0.75 * self.end_s(pulse, known))

    def end_s(self, pulse: PulseReading, known: Known) -> float:
        """How long a process may stay as it is now before it is ended."""
        return max(self._usual_end_s(pulse, known.step_s), self.ended_gaps * known.gap_s)

    def _usual_end_s(self, pulse: PulseReading, step_s: float | None) -> float:
        if pulse.phase != Phase.TRAINING:
            return self.ended_other_s
        if step_s is None or waits_for_rows(pulse):
            return self.ended_first_s
        return max(self.ended_s, self.ended_steps * step_s)

    def _usual_s(self, pulse: PulseReading, step_s: float | None) -> float:
        phase = Phase.parse(pulse.phase)
        if phase in _SLOW:
            return self.slow_s
        if phase not in _BEATING:
            return self.phase_s
        if phase is not Phase.TRAINING or waits_for_rows(pulse):
            return self.beating_s
        if step_s is None:
            return self.first_s
        return max(self.beating_s, min(self.steps * step_s, max(self.most_s, 2 * step_s)))


PATIENCE = Patience()
