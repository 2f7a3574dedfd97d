"""Diagnosis values: the cause of a stall, what to do about it, and what helps."""

from dataclasses import dataclass
from enum import StrEnum

from headway.base.errors import Exit, Finding


class StallCause(StrEnum):
    """Why a process is not making progress. Code compares these; the text is for people."""

    HEALTHY = "healthy"  # it makes progress
    UNKNOWN = "unknown"
    FIRST_BYTES = "first_bytes"  # of a stream
    SLOW_SOURCE = "slow_source"
    LOADER_DEAD = "loader_dead"
    LOADER_FROZEN = "loader_frozen"
    DEADLOCK = "deadlock"
    GIL_HELD = "gil_held"
    COLLECTIVE = "collective"  # some rank has not reached it
    RANK_DEAD = "rank_dead"
    DISK_FULL = "disk_full"
    DISK_SLOW = "disk_slow"
    MEMORY_PRESSURE = "memory_pressure"
    STOPPED = "stopped"  # SIGSTOP, or a debugger
    COMPILING = "compiling"
    THREADS_SPIN = "threads_spin"
    TOO_MANY_THREADS = "too_many_threads"
    CPU_QUOTA = "cpu_quota"
    BUSY_MACHINE = "busy_machine"
    LOCK_FILE = "lock_file"  # whose owner is dead
    TRACKER = "tracker"  # an upload
    TOKENIZER = "tokenizer"  # on a pathological line
    NETWORK = "network"  # DNS, a proxy, a server that does not answer
    STANDARD_INPUT = "standard_input"
    COMPUTING = "computing"  # long, but it computes
    SLEEPING = "sleeping"  # in time.sleep


class Helps(StrEnum):
    """What gets a run out of a stall."""

    PATIENCE = "patience"  # it resolves by itself
    RESTART = "restart"  # new processes do not meet it
    PERSON = "person"  # somebody has to change something first


@dataclass(frozen=True)
class Diagnosis:
    """Why a job is not making progress.

    Attributes:
        cause: for code.
        finding: for people: what, have, need and what to do.
        helps: what gets it out.
        pid: the process that is to blame, 0 if none is.
        exit_code: of a run that ends because of it.
    """

    cause: StallCause
    finding: Finding
    helps: Helps
    pid: int = 0
    exit_code: Exit = Exit.BROKEN
