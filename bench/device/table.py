"""The table that is printed last: what each row gave, and how it stands beside its target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from device.rows import Outcome


@dataclass(frozen=True)
class Target:
    """A figure of one row over the same figure of another.

    Attributes:
        what: in the table.
        ours: name of a row.
        theirs: name of a row; "" if the figure itself is compared.
        figure: of both.
        limit: that the ratio has to reach, or to stay below.
        is_most: the ratio has to stay below.
    """

    what: str
    ours: str
    theirs: str
    figure: str
    limit: float
    is_most: bool = False


RATE, MEMORY, FIRST, MFU = "answer tokens/s", "memory, GB", "first step, s", "MFU"
TARGETS = (
    Target("text, 1B: MFU of the measured bf16 peak", "text headway", "", MFU, 0.55),
    Target("chats, 0.5B, beside packed TRL", "chats headway", "chats trl", RATE, 1.5),
    Target("chats, 0.5B, beside padded Trainer", "chats headway", "chats trainer", RATE, 3),
    Target("one system prompt, beside TRL", "prompted headway", "prompted trl", RATE, 5),
    Target("8B in 4 bits, beside TRL", "qlora headway", "qlora trl", RATE, 1.2),
    Target("8B in 4 bits, memory", "qlora headway", "qlora trl", MEMORY, 1.0, is_most=True),
    Target(
        "first step, beside Trainer", "chats headway", "chats trainer", FIRST, 0.6, is_most=True
    ),
)


def ratio(target: Target, outcomes: Sequence[Outcome]) -> float | None:
    """What a target compares; None where a row or a figure is missing."""
    by_name = {one.name: one.figures for one in outcomes}
    ours = by_name.get(target.ours, {}).get(target.figure)
    theirs = by_name.get(target.theirs, {}).get(target.figure) if target.theirs else 1.0
    return None if ours is None or not theirs else ours / theirs


def table(outcomes: Sequence[Outcome], *, compared: bool = True) -> str:
    """For a terminal; a dry run compares nothing."""
    lines = [f"{'row':18}{'':14}{'s':>6}  figures"]
    for one in outcomes:
        figures = " · ".join(f"{name} {value:,.4g}" for name, value in one.figures.items())
        lines.append(f"{one.name:18}{one.status:14}{one.seconds:6.0f}  {figures or one.why}")
    if not compared:
        return "\n".join([*lines, "", "a dry run: no figure here says anything of a GPU"])
    lines += ["", f"{'target':42}{'at least':>9}{'here':>8}"]
    for target in TARGETS:
        found = ratio(target, outcomes)
        limit = f"{'<=' if target.is_most else ''}{target.limit:g}"
        lines.append(f"{target.what:42}{limit:>9}{'-' if found is None else f'{found:.2f}':>8}")
    return "\n".join(lines)


def page(
    conditions: Mapping[str, object], outcomes: Sequence[Outcome], *, compared: bool = True
) -> str:
    """The same as a page, with where it ran."""
    shown = table(outcomes, compared=compared)
    said = "\n".join(f"- {name}: {value}" for name, value in conditions.items())
    return f"# A GPU, {conditions.get('device')}\n\n{said}\n\n```\n{shown}\n```\n"
