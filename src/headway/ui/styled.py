"""Styled lines: text segments with styles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from headway.base.errors import Finding, four_parts
from headway.ui.text_layout import LABEL, MARKS, flow, fold, printable

Style = Literal["", "bold", "dim", "green", "red", "yellow"]
_MARK_STYLES: dict[str, Style] = {"adjusted": "yellow", "warning": "yellow", "refused": "red"}


@dataclass(frozen=True)
class StyledLine:
    """A line on a screen; screens without colors print its `text`."""

    pieces: tuple[tuple[str, Style], ...] = ()

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(text for text, _ in self.pieces)


def styled(lines: Iterable[str], style: Style = "") -> list[StyledLine]:
    """Each line in one style."""
    return [StyledLine(((line, style),)) for line in lines]


def labeled(label: str, text: str) -> StyledLine:
    """Text with a label before it."""
    return StyledLine(((f"{label:{LABEL}}", "dim"), (text, "")))


def fact_lines(label: str, facts: Sequence[str], width: int) -> list[StyledLine]:
    """Facts after one label; nothing if there are no facts."""
    lines = flow(facts, width - LABEL)
    return [labeled("" if i else label, line) for i, line in enumerate(lines)]


def finding_lines(finding: Finding, width: int) -> list[StyledLine]:
    """A finding in its four parts, with the mark of its kind."""
    _, *rest = four_parts(
        finding.what, finding.have, finding.need, finding.remedies, max(width, 40)
    )
    first, *more = fold(finding.what, width - 2)
    head = styled([MARKS[finding.kind] + first], _MARK_STYLES.get(finding.kind, ""))
    return head + styled(["  " + line for line in more] + [printable(line) for line in rest])
