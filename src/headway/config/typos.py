"""Typos: the known name that a misspelled word stands for, if it is at most a slip away."""

from collections.abc import Iterable

_SHORT, _LONG = 4, 8  # letters from which one slip, and two, leave a word recognizable


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar known name within one or two slips; None if the word is none of them.

    Args:
        word: as it was typed.
        known: the names to choose from; the first of equally similar ones wins.
    """
    found, least = None, _LONG
    for name in known:
        slips = _slips(word, name)
        if slips is not None and slips < least:
            found, least = name, slips
    return found


def _slips(word: str, name: str) -> int | None:
    """Slips between two names; None if the names differ: val_file is no slip of val_size."""
    longer = max(len(word), len(name))
    allowed = (longer >= _SHORT) + (longer >= _LONG)
    if abs(len(word) - len(name)) > allowed:
        return None
    slips = distance(word, name)
    if slips <= 1 or slips > allowed:
        return slips if slips <= allowed else None
    parts, wanted = word.split("_"), name.split("_")
    if len(parts) != len(wanted):
        return None
    pairs = list(zip(parts, wanted, strict=True))
    alike = all(distance(one, other) <= 1 + (len(other) >= _LONG) for one, other in pairs)
    return slips if alike else None


def distance(one: str, other: str) -> int:
    """Letters left out, added, replaced, or swapped with their neighbor, to get from one to other.

    Optimal string alignment (Damerau 1964; a swapped pair is not edited again).
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, last, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                best = min(best, last[j - 2] + 1)
            row.append(best)
    return row[-1]
