"""Rows: what is measured one after the other, each within its own time."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_LEAST_S = 5.0  # with less time left, a row is not begun


class NotAvailable(Exception):  # noqa: N818 - nothing went wrong
    """A row that cannot be measured here; the message says what it needs."""


@dataclass(frozen=True)
class Row:
    """One thing to do.

    Attributes:
        name: in the table, and for `--only`.
        limit_s: what its processes may take together.
        do: gets an empty folder and the seconds that are left; returns figures.
    """

    name: str
    limit_s: float
    do: Callable[[Path, float], Mapping[str, float]]


@dataclass(frozen=True)
class Outcome:
    """What came of a row: ok, failed, not available, or left out for want of time."""

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
    """Run every row; one that fails costs no other.

    Args:
        rows: in the order in which they are run.
        folder: each gets a folder in it.
        end_s: by `clock`: nothing goes on for longer.
        write: gets the outcomes so far, after each row.
        clock: seconds.
    """
    outcomes: list[Outcome] = []
    for row in rows:
        left_s = end_s - clock()
        if left_s < _LEAST_S:
            outcomes.append(Outcome(row.name, "left out", why="no time was left"))
        else:
            outcomes.append(_run(row, folder, min(row.limit_s, left_s), clock))
        print(f"{row.name}: {outcomes[-1].status} {outcomes[-1].why}", file=sys.stderr, flush=True)
        write(outcomes)
    return outcomes


def _run(row: Row, folder: Path, limit_s: float, clock: Callable[[], float]) -> Outcome:
    began_s = clock()
    place = folder / row.name.replace(" ", "-")
    place.mkdir()
    status, figures, why = "ok", dict[str, float](), ""
    try:
        figures = dict(row.do(place, limit_s))
    except NotAvailable as reason:
        status, why = "not available", str(reason)
    except Exception as error:
        (place / "error.txt").write_text("".join(traceback.format_exception(error)))
        status, why = "failed", next(iter(str(error).splitlines()), type(error).__name__)
    return Outcome(row.name, status, clock() - began_s, figures, why)
