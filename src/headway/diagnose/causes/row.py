"""Row of the table of causes: one cause, and how it is found in the evidence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from headway.base.errors import Cause, Exit, Finding, Remedy
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import Evidence


@dataclass(frozen=True)
class CauseRow:
    """A row of the table.

    Attributes:
        cause: that it finds.
        find: the diagnosis if the evidence shows the cause, else None; pure.
        seen_by: the evidence for it, for docs/stalls.md.
        fix: what to do, for docs/stalls.md.
    """

    cause: StallCause
    find: Callable[[Evidence], Diagnosis | None]
    seen_by: str
    fix: str


# What helps, the exit code of a run that ends because of it, and the cause of its refusal.
_ENDINGS: dict[StallCause, tuple[Helps, Exit, Cause | None]] = {
    StallCause.HEALTHY: (Helps.PATIENCE, Exit.BROKEN, None),
    StallCause.UNKNOWN: (Helps.RESTART, Exit.BROKEN, None),
    StallCause.FIRST_BYTES: (Helps.PATIENCE, Exit.COME_BACK, Cause.NO_ANSWER),
    StallCause.SLOW_SOURCE: (Helps.PATIENCE, Exit.COME_BACK, Cause.SLOWER),
    StallCause.LOADER_DEAD: (Helps.RESTART, Exit.MACHINE, Cause.PROCESS_KILLED),
    StallCause.LOADER_FROZEN: (Helps.RESTART, Exit.BROKEN, None),
    StallCause.DEADLOCK: (Helps.RESTART, Exit.BROKEN, None),
    StallCause.GIL_HELD: (Helps.PERSON, Exit.BROKEN, None),
    StallCause.COLLECTIVE: (Helps.RESTART, Exit.BROKEN, Cause.STRAGGLER),
    StallCause.RANK_DEAD: (Helps.RESTART, Exit.MACHINE, Cause.WORKER_LOST),
    StallCause.DISK_FULL: (Helps.PERSON, Exit.MACHINE, Cause.DISK_FULL),
    StallCause.DISK_SLOW: (Helps.PATIENCE, Exit.MACHINE, Cause.WRITE_STALLED),
    StallCause.MEMORY_PRESSURE: (Helps.PERSON, Exit.MACHINE, Cause.OUT_OF_MEMORY),
    StallCause.STOPPED: (Helps.PERSON, Exit.MACHINE, None),
    StallCause.COMPILING: (Helps.PATIENCE, Exit.BROKEN, None),
    StallCause.THREADS_SPIN: (Helps.PERSON, Exit.MACHINE, Cause.SLOWER),
    StallCause.TOO_MANY_THREADS: (Helps.PERSON, Exit.MACHINE, Cause.SLOWER),
    StallCause.CPU_QUOTA: (Helps.PERSON, Exit.MACHINE, Cause.SLOWER),
    StallCause.BUSY_MACHINE: (Helps.PATIENCE, Exit.MACHINE, Cause.SLOWER),
    StallCause.LOCK_FILE: (Helps.PERSON, Exit.MACHINE, Cause.LOCKED),
    StallCause.TRACKER: (Helps.PERSON, Exit.COME_BACK, Cause.NO_ANSWER),
    StallCause.TOKENIZER: (Helps.PERSON, Exit.DATA, None),
    StallCause.NETWORK: (Helps.PERSON, Exit.COME_BACK, Cause.NO_ANSWER),
    StallCause.STANDARD_INPUT: (Helps.PERSON, Exit.USAGE, None),
    StallCause.COMPUTING: (Helps.PATIENCE, Exit.BROKEN, None),
    StallCause.SLEEPING: (Helps.RESTART, Exit.BROKEN, None),
}


def diagnosis(
    cause: StallCause,
    what: str,
    *,
    have: str = "",
    need: str = "",
    remedies: tuple[Remedy, ...] = (),
    pid: int = 0,
    helps: Helps | None = None,
) -> Diagnosis:
    """A diagnosis with what its cause implies: what helps, the exit code, the kind of finding.

    `helps` is given where it is other than usual for the cause.
    """
    usual, code, refusal = _ENDINGS[cause]
    helps = helps or usual
    kind: Literal["ok", "warning"] = "ok" if helps is Helps.PATIENCE else "warning"
    finding = Finding(kind, what, have, need, remedies, refusal)
    return Diagnosis(cause, finding, helps, pid, code)
