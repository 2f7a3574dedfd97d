"""Gate of an inbox: what a file needs for current_model to move on to the model after it."""

from collections.abc import Sequence
from enum import StrEnum

from headway.inbox.recall.still_known import StillKnown


class GateTerm(StrEnum):
    """One condition, as it is written."""

    KEPT = "kept"  # all of it was trained, which holds of every file that is done
    IMPROVED = "improved"  # the model got better at it
    NOTHING_FORGOTTEN = "nothing_forgotten"  # and not worse at any earlier file


Gate = tuple[GateTerm, ...]


def read_gate(text: object) -> Gate:
    """A gate from 'improved and nothing_forgotten'.

    Raises:
        ValueError: the text is something else.
    """
    words = text.split() if isinstance(text, str) else []
    terms, joints = words[::2], words[1::2]
    is_whole = len(words) % 2 == 1 and all(joint == "and" for joint in joints)
    if not is_whole or not set(terms) <= set(GateTerm):
        names = ", ".join(GateTerm)
        raise ValueError(f"one or more of {names}, joined by and")
    return tuple(dict.fromkeys(map(GateTerm, terms)))


def why_closed(gate: Sequence[GateTerm], verdict: str, known: StillKnown | None) -> str:
    """Why a gate stays closed; "" if it opens.

    Args:
        gate: every term has to hold.
        verdict: of the file's receipt, on learning.
        known: what was measured after the file.
    """
    reasons: list[str] = []
    if GateTerm.IMPROVED in gate and verdict != "improved":
        reasons.append(f"learning {verdict}")
    if GateTerm.NOTHING_FORGOTTEN in gate:
        reasons.append(known.why_forgotten if known else "what is still known was not measured")
    return ", ".join(filter(None, reasons))
