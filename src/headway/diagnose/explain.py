"""Explanation of a stall: the table of causes, in order, and the first one that fits."""

from headway.diagnose.causes import (
    computing,
    data,
    disks,
    machine,
    memory,
    network,
    terminal,
    threads,
    workers,
)
from headway.diagnose.causes.row import CauseRow
from headway.diagnose.diagnosis import Diagnosis
from headway.diagnose.evidence.facts import Evidence

# What explains other things comes before what it explains: a stopped worker before the collective
# in which the others wait for it, a full disk before the sleep between two tries.
TABLE: tuple[CauseRow, ...] = (
    computing.HEALTHY,
    machine.STOPPED,
    terminal.HELD_TERMINAL,
    workers.RANK_DEAD,
    disks.DISK_FULL,
    memory.MEMORY_PRESSURE,
    data.LOADER_DEAD,
    data.LOADER_FROZEN,
    data.TOKENIZER,
    threads.GIL_HELD,
    disks.LOCK_FILE,
    network.TRACKER,
    threads.DEADLOCK,
    terminal.FULL_PIPE,
    disks.DISK_SLOW,
    network.NETWORK,
    data.FIRST_BYTES,
    terminal.STANDARD_INPUT,
    data.SLOW_SOURCE,
    network.NO_ANSWER,
    computing.COMPILING,
    workers.COLLECTIVE,
    machine.CPU_QUOTA,
    machine.THREADS_SPIN,
    machine.TOO_MANY_THREADS,
    machine.BUSY_MACHINE,
    terminal.SLEEPING,
    computing.COMPUTING,
    computing.UNKNOWN,
)


def explain(evidence: Evidence) -> Diagnosis:
    """Why a job is not making progress, and what to do about it: the first row that fits.

    A pure function: the same evidence always has the same explanation.
    """
    found = (row.find(evidence) for row in TABLE)
    return next((one for one in found if one), None) or computing.unknown(evidence)
