"""Text layout: wrapping, columns and tables for any terminal width."""

import itertools
import math
from collections.abc import Iterable, Sequence

LABEL = 11  # columns of a label and the space after it
DOT = " · "
MARKS = {"adjusted": "~ ", "warning": "! ", "refused": "x ", "ok": "= "}
_BLOCKS = "▁▂▃▄▅▆▇█"
_NARROW = str.maketrans(dict.fromkeys("·…━─±↵" + _BLOCKS, "."))


def cells(text: str) -> int:
    """The columns that the text takes on a terminal: two for wide characters, none for accents."""
    if _is_narrow(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _is_narrow(text: str) -> bool:
    """Whether each character takes one column: the common case, decided without rich."""
    return text.isascii() or text.translate(_NARROW).isascii()


def printable(text: str) -> str:
    """Untrusted text (names, data) without control or invisible characters."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "�" for c in text)


def one_line(text: str) -> str:
    """Untrusted text as one printable line with visible line breaks."""
    return printable(text.strip().replace("\r\n", "\n").replace("\n", "↵").replace("\t", " "))


def cut(text: str, width: int) -> str:
    """The text, truncated to `width` columns with an ellipsis."""
    if cells(text) <= width:
        return text
    return (_chop(text, width - 1)[0] if width > 1 else "") + "…"


def _chop(text: str, width: int) -> list[str]:
    if _is_narrow(text):
        return [text[at : at + width] for at in range(0, len(text), width)]
    from rich.cells import chop_cells

    return chop_cells(text, width)


def fold(text: str, width: int) -> list[str]:
    """The printable text in lines of at most `width` columns, wrapped between words."""
    lines = [""]
    for word in printable(text).split(" "):
        room = width - cells(lines[-1]) - 1
        if lines[-1] and cells(word) <= room:
            lines[-1] += " " + word
            continue
        if not lines[-1]:
            lines.pop()
        lines += [word] if cells(word) <= width else _chop(word, width)
    return [line.rstrip(" ") for line in lines]


def flow(parts: Iterable[str], width: int) -> list[str]:
    """Facts joined by dots, as many per line as fit; no line starts or ends with a dot."""
    lines: list[str] = []
    for part in parts:
        if lines and cells(lines[-1]) + len(DOT) + cells(part) <= width:
            lines[-1] += DOT + part
        else:
            lines += fold(part, width)
    return lines


def joined(parts: Iterable[str]) -> str:
    """Facts joined by dots; one in parentheses follows the previous one directly."""
    return DOT.join(parts).replace(f"{DOT}(", " (")


def narrowed(parts: Sequence[tuple[int, str]], width: int) -> str:
    """The facts that fit on one line, in order.

    Args:
        parts: facts with their ranks; the highest rank is dropped first, rank 0 never.
        width: columns.
    """
    kept = list(parts)
    while cells(line := joined(text for _, text in kept)) > width:
        last = max(rank for rank, _ in kept)
        if last == 0:
            return cut(line, width)
        kept = [(rank, text) for rank, text in kept if rank != last]
    return line


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Rows of equal length as columns two spaces apart; `right` lists the right-aligned ones."""
    widths = [max(cells(row[i]) for row in rows) for i in range(len(rows[0]))]

    def padded(i: int, text: str) -> str:
        space = " " * (widths[i] - cells(text))
        return space + text if i in right else text + space

    return ["  ".join(padded(i, text) for i, text in enumerate(row)).rstrip() for row in rows]


def clock(age_s: float) -> str:
    """An age that changes every second: '4.2 s' below ten seconds, then '0:42', '1:02:07'."""
    if age_s < 10:
        return f"{max(age_s, 0):.1f} s" if age_s < 9.95 else "0:10"
    minutes, rest = divmod(int(age_s), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def loss_text(loss: float) -> str:
    """A loss in a few digits: '2.45', '0.013', '4e-05'; a small loss is never shown as 0.00."""
    if not math.isfinite(loss) or abs(loss) >= 1000 or 0 < abs(loss) < 0.1:
        return f"{loss:.2g}"
    return f"{loss:.2f}" if loss else "0"


def spark(values: Sequence[float], width: int) -> str:
    """A sparkline of at most `width` blocks; "" for fewer than two finite values."""
    finite = [value for value in _averaged(values, width) if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    low, spread = min(finite), max(finite) - min(finite)
    top = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round((v - low) / spread * top) if spread else 0] for v in finite)


def _averaged(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [len(values) * i // width for i in range(width + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]


def bar(share: float, width: int) -> tuple[str, str]:
    """The filled and the empty part of a progress bar, `width` columns in total."""
    filled = min(max(int(share * width), 0), width)
    return "━" * filled, "─" * (width - filled)
