"""Suspended time: how long this machine has slept since it started."""

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def suspended_s() -> float:
    """Seconds that the machine has slept so far; 0 where the system does not tell them apart.

    CLOCK_MONOTONIC does not advance while a laptop sleeps, CLOCK_BOOTTIME does not.
    """
    if _BOOTTIME is None:  # macOS
        return 0.0
    return max(0.0, time.clock_gettime(_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC))
