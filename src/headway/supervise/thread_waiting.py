"""How a trainer's threads wait for each other: asleep, so that other work gets the core.

OpenMP's threads spin while they wait. Alone on a machine, that saves microseconds. Beside other
work, each spins away the time that the thread it waits for needs, and a step takes many times as
long.
"""

import os
from enum import StrEnum

# One policy in three spellings: OpenMP's, GNU's count of spins (libgomp) and Intel's and LLVM's
# milliseconds (libiomp, libomp), which do not end with OpenMP's word alone.
_PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


class ThreadWaiting(StrEnum):
    """What threads do that wait, in the words of a plan."""

    ASLEEP = "threads sleep while they wait"
    YOURS = "threads wait as you set (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME)"


def choose_waiting() -> ThreadWaiting:
    """Asleep, unless a person has set one of the variables."""
    return ThreadWaiting.YOURS if any(map(os.environ.get, _PASSIVE)) else ThreadWaiting.ASLEEP


def environment() -> dict[str, str]:
    """Variables that make a process's threads wait as `choose_waiting` says.

    Each of the three overrides the others, so a person's own one stands alone.
    """
    return dict(_PASSIVE) if choose_waiting() is ThreadWaiting.ASLEEP else {}
