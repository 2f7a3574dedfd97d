"""Stall policy: what to do about a process that has made no progress for too long."""

from enum import StrEnum

from headway.base.pulse import PulseReading, waits_for_rows
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.runs.workers import OnStall

# What ends by itself or by a person's hand, and what new workers would meet again.
_WAITED_FOR = {
    StallCause.COMPILING,
    StallCause.DISK_FULL,
    StallCause.DISK_SLOW,
    StallCause.FIRST_BYTES,
    StallCause.LOCK_FILE,
    StallCause.MEMORY_PRESSURE,
    StallCause.NETWORK,
    StallCause.SLOW_SOURCE,
    StallCause.STANDARD_INPUT,
    StallCause.TRACKER,
}
# Slow, not stuck.
_SLOW = {
    StallCause.BUSY_MACHINE,
    StallCause.CPU_QUOTA,
    StallCause.THREADS_SPIN,
    StallCause.TOO_MANY_THREADS,
}


class Act(StrEnum):
    """What is done."""

    WAIT = "wait"
    RESTART = "restart"
    STOP = "stop"


def choose_act(on_stall: OnStall, diagnosis: Diagnosis, pulse: PulseReading) -> Act:
    """What to do about a worker that is past its patience.

    Work without an end looks like work, and a busy machine has been allowed for in the time: past
    its patience, both are stalls. Rows that do not come are waited for until their deadline; then
    the run stops, saved, because new workers would wait for the same rows.

    Args:
        on_stall: the setting.
        diagnosis: why it is not making progress.
        pulse: of the worker.
    """
    if on_stall == "wait":
        return Act.WAIT
    if diagnosis.cause not in _WAITED_FOR:
        return Act(on_stall)
    can_stop = on_stall == "stop" and diagnosis.helps is not Helps.PATIENCE
    return Act.STOP if can_stop or waits_for_rows(pulse) else Act.WAIT


def is_accused(diagnosis: Diagnosis) -> bool:
    """Whether what was found is a stall, and not a silence that is over by itself."""
    return diagnosis.helps is not Helps.PATIENCE and diagnosis.cause not in _SLOW
