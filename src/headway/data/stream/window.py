"""Windows of a flow's rows on disk: what is in one, and where the next begins."""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.base.files import write_lightly
from headway.data.batching.rows import Stretch
from headway.data.formats.records import Rejected
from headway.data.stream.cursor import HELD_OUT, StreamCursor


@dataclass(frozen=True)
class WindowFacts:
    """What a window's file says beside its rows."""

    after: StreamCursor
    rejected: tuple[Rejected, ...]  # records found bad while this window was made
    units: dict[int, int]  # of the held-out rows: records taken of each unit, -1 for all


@dataclass(frozen=True)
class Window:
    """Finished rows.

    Attributes:
        ids: (N,) the stretches of all rows, one after the other.
        stretch_ends: (S,) where each stretch ends in `ids`.
        row_ends: (R,) how many stretches come before each row's end.
        trained: (N,) which tokens are learned; None: all but each stretch's first.
    """

    ids: NDArray[Any]
    stretch_ends: NDArray[np.int64]
    row_ends: NDArray[np.int64]
    trained: NDArray[np.bool_] | None
    told: WindowFacts

    def __len__(self) -> int:
        return len(self.row_ends)

    def stretches(self, row: int) -> list[Stretch]:
        """The stretches of a row, counted from the window's beginning."""
        first = int(self.row_ends[row - 1]) if row else 0
        found: list[Stretch] = []
        for number in range(first, int(self.row_ends[row])):
            begin = int(self.stretch_ends[number - 1]) if number else 0
            end = int(self.stretch_ends[number])
            learned = None if self.trained is None else self.trained[begin + 1 : end]
            found.append(Stretch(self.ids[begin:end], learned))
        return found


def window_of(rows: Sequence[Sequence[Stretch]], told: WindowFacts, dtype: str) -> Window:
    """Lay rows out as a window."""
    stretches = [stretch for row in rows for stretch in row]
    flags = [s.trained for s in stretches]
    trained = None
    if any(one is not None for one in flags):
        first = np.zeros(1, dtype=np.bool_)
        parts = [
            part
            for stretch, learned in zip(stretches, flags, strict=True)
            for part in (first, np.ones(len(stretch), np.bool_) if learned is None else learned)
        ]
        trained = np.concatenate(parts)
    return Window(
        ids=np.concatenate([s.ids for s in stretches]).astype(dtype),
        stretch_ends=np.cumsum([len(s.ids) for s in stretches], dtype=np.int64),
        row_ends=np.cumsum([len(row) for row in rows], dtype=np.int64),
        trained=trained,
        told=told,
    )


def path_of(folder: Path, number: int) -> Path:
    """The file of a window."""
    return folder / ("held-out.window" if number == HELD_OUT else f"{number:08}.window")


def save_window(folder: Path, number: int, window: Window) -> None:
    """Write a window; it appears by one rename. Not durable: it can be made again."""
    arrays: dict[str, NDArray[Any]] = {
        "ids": window.ids,
        "stretch_ends": window.stretch_ends,
        "row_ends": window.row_ends,
        "told": np.frombuffer(msgspec.json.encode(window.told), dtype=np.uint8),
    }
    if window.trained is not None:
        arrays["trained"] = window.trained
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_lightly(path_of(folder, number), buffer.getvalue())


def load_window(folder: Path, number: int) -> Window | None:
    """Read a window; None where there is none, or a damaged one."""
    try:
        path = path_of(folder, number)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Window(
                ids=arrays["ids"],
                stretch_ends=arrays["stretch_ends"],
                row_ends=arrays["row_ends"],
                trained=arrays.get("trained"),
                told=msgspec.json.decode(arrays["told"].tobytes(), type=WindowFacts),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, msgspec.MsgspecError):
        return None
