"""Silence: what a command that prints nothing is doing, in one line."""

from headway.base.units import seconds, size
from headway.guard.watch.activity import COMPUTES, MOVES, READS, TreeActivity

SPEAKS_AFTER_S = 3.0
_LATER_S = (3.0, 15.0, 60.0, 300.0)  # where each line stays, as in a file; then every 10 minutes
_AGAIN_S = 600.0


def doing(activity: TreeActivity, where: str = "", gpu_busy: float = 0.0) -> str:
    """What processes do, the most telling first: "reading from the network (1.2 MB/s)".

    Args:
        activity: of late.
        where: the function that computes, "" if that is not known.
        gpu_busy: share of the time in which a GPU of theirs computed.
    """
    parts: list[str] = []
    if activity.received_per_s >= READS:
        parts.append(f"reading from the network ({size(activity.received_per_s)}/s)")
    if gpu_busy >= 0.05:
        parts.append(f"computing on the GPU ({gpu_busy:.0%} busy)")
    if activity.cores >= COMPUTES:
        cores = "1 core" if round(activity.cores, 1) == 1 else f"{activity.cores:.1f} cores"
        inside = f", in {where}" if where else ""
        parts.append(f"computing ({cores}{inside})")
    if activity.written_per_s >= MOVES:
        parts.append(f"writing to a disk ({size(activity.written_per_s)}/s)")
    if activity.read_per_s >= MOVES:
        parts.append(f"reading from a disk ({size(activity.read_per_s)}/s)")
    elif activity.copied_per_s >= MOVES and not parts:
        parts.append(f"reading or writing ({size(activity.copied_per_s)}/s)")
    if parts:
        return " · ".join(parts[:2])
    states = set(activity.states)
    if "R" in states:  # it computes now and then, or would if it got a core
        return f"computing (less than {COMPUTES} cores)"
    if states and states <= {"T", "t"}:
        return "stopped"
    inside = f" in {where}" if where else ""
    return "waiting for a disk" + inside if "D" in states else "waiting" + inside


def silence_line(silent_s: float, what: str) -> str:
    """The line that is shown."""
    return f"headway: no output for {seconds(round(silent_s))}: {what}".replace(".0 s:", " s:")


def is_due(silent_s: float, told_s: float, *, stays: bool, usual_s: float | None) -> bool:
    """Whether to say something about a silence.

    Args:
        silent_s: how long it lasts.
        told_s: how long it had lasted when something was last said, 0.0 if nothing was.
        stays: whether lines stay, as in a file: then fewer are printed, and none within the
            usual time between two lines.
        usual_s: that time; None while it is not known.
    """
    if silent_s < SPEAKS_AFTER_S:
        return False
    if not stays:
        return silent_s - told_s >= 1.0
    quiet_s = max(SPEAKS_AFTER_S, 2 * (usual_s or 0.0))
    later = [quiet_s, *(mark for mark in _LATER_S if mark > quiet_s)]
    due = next((mark for mark in later if mark > told_s), told_s + _AGAIN_S)
    return silent_s >= due
