"""Rows: what is measured one after the other, within one time that they share."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Left = Callable[[], float]  # the seconds that are left, now


class NotAvailable(Exception):  # noqa: N818 - nothing went wrong
    """A row that cannot be measured here; the message says what it needs."""


@dataclass(frozen=True)
class Row:
    """One thing to do.

    Attributes:
        name: in the table, and for `--only`.
        share_s: of the time, that is kept for it.
        do: gets an empty folder and what says how long it may still take; returns figures.
    """

    name: str
    share_s: float
    do: Callable[[Path, Left], Mapping[str, float]]


@dataclass(frozen=True)
class Outcome:
    """What came of a row: ok, failed, not available, or not run, for want of time."""

    name: str
    status: str
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
    why: str = ""


def run_rows(
    rows: Sequence[Row],
    folder: Path,
    end_s: float,
    write: Callable[[list[Outcome]], None],
    clock: Callable[[], float] = time.monotonic,
) -> list[Outcome]:
    """Run every row that there is time for; one that fails costs no other.

    A row may take what nobody needs: its own share, and what the rows before it have left over.
    Where the time is not enough for all, it is the last ones that are not run.

    Args:
        rows: the most telling first.
        folder: each gets a folder in it.
        end_s: by `clock`: nothing goes on for longer.
        write: gets the outcomes so far, after each row.
        clock: seconds.
    """
    outcomes: list[Outcome] = []
    for at, row in enumerate(rows):
        left_s = end_s - clock()
        if left_s < row.share_s:
            outcomes.append(Outcome(row.name, "not run", why="no time left"))
        else:
            kept_s = _kept_s(rows[at + 1 :], left_s - row.share_s)
            outcomes.append(_run(row, folder, left_s - kept_s, clock))
        told = ": ".join(filter(None, (row.name, outcomes[-1].status, outcomes[-1].why)))
        print(told, file=sys.stderr, flush=True)
        write(outcomes)
    return outcomes


def _kept_s(rows: Sequence[Row], left_s: float) -> float:
    """The shares of the rows that some time is enough for, in their order."""
    kept_s = 0.0
    for row in rows:
        if kept_s + row.share_s <= left_s:
            kept_s += row.share_s
    return kept_s


def _run(row: Row, folder: Path, limit_s: float, clock: Callable[[], float]) -> Outcome:
    began_s = clock()
    place = folder / row.name.replace(" ", "-")
    place.mkdir()
    status, figures, why = "ok", dict[str, float](), ""
    try:
        figures = dict(row.do(place, lambda: max(0.1, began_s + limit_s - clock())))
    except NotAvailable as reason:
        status, why = "not available", str(reason)
    except Exception as error:
        (place / "error.txt").write_text("".join(traceback.format_exception(error)))
        status, why = "failed", next(iter(str(error).splitlines()), type(error).__name__)
    return Outcome(row.name, status, clock() - began_s, figures, why)
