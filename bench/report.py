"""Trials -> medians, spread, ratios, targets met or not; as JSON and as a page."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from headway.base.machine import this_machine
from headway.base.units import size

Figures = dict[str, float]
BETTER = {  # what a figure is better at; the others are shown and not compared
    "answer tokens/s": "more",
    "tokens/s": "more",
    "MB/s": "more",
    "first step, s": "less",
    "core seconds a step": "less",
    "seconds": "less",
    "peak memory, MB": "less",
}


@dataclass(frozen=True)
class Contender:
    """One way of doing it, and what came of each trial."""

    name: str
    how: str  # what was typed or set
    trials: tuple[Figures, ...]
    absent: str = ""  # why there are no trials

    def values(self, figure: str) -> list[float]:
        """One figure of all trials; none if it is not one of this contender's."""
        return [trial[figure] for trial in self.trials if figure in trial]


@dataclass(frozen=True)
class Target:
    """What Headway's figure is to be of another contender's."""

    figure: str
    against: str
    times: float  # at least, where more is better; at most, where less is


@dataclass(frozen=True)
class Measurement:
    """Contenders that did the same work; the last one is Headway."""

    title: str
    what: str
    notes: tuple[str, ...]
    contenders: tuple[Contender, ...]
    compared: bool = True  # whether the contenders did the same thing
    targets: tuple[Target, ...] = ()


@dataclass(frozen=True)
class Spread:
    """A figure over its trials."""

    median: float
    min: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(median(values), min(values), max(values))


def ratio(headway: Contender, other: Contender, figure: str) -> Spread | None:
    """Headway's figure over another's: of the medians; least and most of the rounds.

    None where one of them has no such figure.
    """
    ours, theirs = headway.values(figure), other.values(figure)
    if not ours or not theirs:
        return None
    rounds = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Spread(median(ours) / median(theirs), min(rounds), max(rounds))


def verdict(measurement: Measurement, target: Target) -> tuple[Spread | None, bool | None]:
    """What became of a target: the ratio, and whether it is met; None where it was not measured."""
    *others, headway = measurement.contenders
    (other,) = [one for one in others if one.name == target.against]
    by = ratio(headway, other, target.figure)
    if by is None:
        return None, None
    more = BETTER[target.figure] == "more"
    return by, by.median >= target.times if more else by.median <= target.times


def machine() -> dict[str, Any]:
    """Where it was measured."""
    here = this_machine()
    return {
        "cpu": here.cpu,
        "cores": here.cores,
        "memory": size(here.memory_bytes),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions(*more: str) -> dict[str, str]:
    """What was measured; `more` packages than everywhere."""
    packages = ("headway", "torch", "transformers", "accelerate", "tokenizers", *more)
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def as_json(measurements: Sequence[Measurement], head: dict[str, Any]) -> dict[str, Any]:
    """The whole of it, each trial included."""
    return (
        {"schema": "headway.bench/2"} | head | {"measurements": [_plain(m) for m in measurements]}
    )


def _plain(measurement: Measurement) -> dict[str, Any]:
    contenders = [
        asdict(one) | {"figures": {f: asdict(spread(one.values(f))) for f in _figures([one])}}
        for one in measurement.contenders
    ]
    told = asdict(measurement) | {"contenders": contenders, "ratios": _ratios(measurement)}
    for target, one in zip(told["targets"], measurement.targets, strict=True):
        by, met = verdict(measurement, one)
        target |= {"ratio": by and asdict(by), "met": met}
    return told


def _figures(contenders: Sequence[Contender]) -> list[str]:
    """The names of all figures, in the order in which they first come."""
    return list(dict.fromkeys(f for one in contenders for trial in one.trials for f in trial))


def _ratios(measurement: Measurement) -> list[dict[str, Any]]:
    if not measurement.compared:
        return []
    *others, headway = measurement.contenders
    return [
        {"figure": figure, "over": other.name} | asdict(by)
        for figure in _figures([headway])
        if figure in BETTER
        for other in others
        if (by := ratio(headway, other, figure))
    ]


def as_page(measurements: Sequence[Measurement], head: dict[str, Any]) -> str:
    """The same for people, as Markdown."""
    lines = [f"# Side by side, {head['date']}", ""]
    here, versions = head["machine"], head["versions"]
    lines.append(f"{here['cpu']}, {here['cores']} cores, {here['memory']} of memory, ")
    lines[-1] += f"{here['system']}. " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."
    lines += _targets(measurements)
    lines += ["", *(f"- {condition}" for condition in head["conditions"])]
    for measurement in measurements:
        lines += ["", f"## {measurement.title}", "", measurement.what, ""]
        lines += _table(measurement)
        lines += ["", *map(_said, measurement.contenders)]
        lines += [f"- {note}" for note in measurement.notes]
    return "\n".join(lines) + "\n"


def _said(contender: Contender) -> str:
    """What was set; or why it is in no table."""
    missing = f". Not measured here: {contender.absent.rstrip('.')}." if contender.absent else ""
    return f"- {contender.name}: {contender.how}{missing}"


def _targets(measurements: Sequence[Measurement]) -> list[str]:
    """The table that is read first; none where nothing is aimed at."""
    lines: list[str] = []
    for measurement in measurements:
        for target in measurement.targets:
            by, met = verdict(measurement, target)
            bound = "at least" if BETTER[target.figure] == "more" else "at most"
            cells = [measurement.title, target.figure, target.against]
            cells += [_times(by), f"{bound} {target.times:g}"]
            cells += ["not measured here" if met is None else "met" if met else "not met"]
            lines.append(f"| {' | '.join(cells)} |")
    head = ["", "| work | figure | against | Headway's is times theirs | target | |"]
    return [*head, "|---|---|---|---|---|---|", *lines] if lines else []


def _times(by: Spread | None) -> str:
    return f"{by.median:.2f} ({by.min:.2f} to {by.max:.2f})" if by else ""


def _table(measurement: Measurement) -> list[str]:
    *_, headway = measurement.contenders
    compared = measurement.compared
    lines = ["| | | median | min | max |" + (" Headway's is times this |" if compared else "")]
    lines.append("|---|---|--:|--:|--:|" + ("---|" if compared else ""))
    for figure in _figures(measurement.contenders):
        for one in measurement.contenders:
            if not (values := one.values(figure)):
                continue
            seen = spread(values)
            numbers = " | ".join(_number(n) for n in (seen.median, seen.min, seen.max))
            by = ratio(headway, one, figure) if one is not headway and figure in BETTER else None
            lines.append(f"| {figure} | {one.name} | {numbers} |" + f" {_times(by)} |" * compared)
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:.2f}"
