"""Trials -> medians, spread, ratios; as JSON and as a page."""

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from headway.base.machine import this_machine
from headway.base.units import size

Figures = dict[str, float]
BETTER = {  # what a figure is better at; losses are shown and not compared
    "answer tokens/s": "more",
    "tokens/s": "more",
    "MB/s": "more",
    "first step, s": "less",
    "seconds": "less",
}


@dataclass(frozen=True)
class Contender:
    """One way of doing it, and what came of each trial."""

    name: str
    how: str  # what was typed or set
    trials: tuple[Figures, ...]

    def values(self, figure: str) -> list[float]:
        """One figure of all trials."""
        return [trial[figure] for trial in self.trials]


@dataclass(frozen=True)
class Measurement:
    """Contenders that did the same work; the last one is Headway."""

    title: str
    what: str
    notes: tuple[str, ...]
    contenders: tuple[Contender, ...]
    compared: bool = True  # whether the contenders did the same thing


@dataclass(frozen=True)
class Spread:
    """A figure over its trials."""

    median: float
    min: float
    max: float


def spread(values: Sequence[float]) -> Spread:
    """Median, least and most."""
    return Spread(median(values), min(values), max(values))


def ratio(headway: Contender, other: Contender, figure: str) -> Spread:
    """How many times better Headway is: of the medians; least and most of the trials side by side.

    Above 1 Headway is better, whether the figure is better when it is more or when it is less.
    """
    ours, theirs = headway.values(figure), other.values(figure)
    if BETTER[figure] == "less":
        ours, theirs = theirs, ours
    pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Spread(median(ours) / median(theirs), min(pairs), max(pairs))


def machine() -> dict[str, Any]:
    """Where it was measured."""
    here = this_machine()
    return {
        "cpu": here.cpu,
        "cores": here.cores,
        "memory": size(here.memory_bytes),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """What was measured."""
    packages = ("headway", "torch", "transformers", "accelerate", "tokenizers")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def as_json(measurements: Sequence[Measurement], head: dict[str, Any]) -> dict[str, Any]:
    """The whole of it, each trial included."""
    return (
        {"schema": "headway.bench/1"} | head | {"measurements": [_plain(m) for m in measurements]}
    )


def _plain(measurement: Measurement) -> dict[str, Any]:
    contenders = [
        asdict(one) | {"figures": {f: asdict(spread(one.values(f))) for f in one.trials[0]}}
        for one in measurement.contenders
    ]
    return asdict(measurement) | {"contenders": contenders, "ratios": _ratios(measurement)}


def _ratios(measurement: Measurement) -> list[dict[str, Any]]:
    if not measurement.compared:
        return []
    *others, headway = measurement.contenders
    return [
        {"figure": figure, "over": other.name} | asdict(ratio(headway, other, figure))
        for figure in headway.trials[0]
        if figure in BETTER
        for other in others
    ]


def as_page(measurements: Sequence[Measurement], head: dict[str, Any]) -> str:
    """The same for people, as Markdown."""
    lines = [f"# Side by side, {head['date']}", ""]
    here, versions = head["machine"], head["versions"]
    lines.append(f"{here['cpu']}, {here['cores']} cores, {here['memory']} of memory, ")
    lines[-1] += f"{here['system']}. " + ", ".join(f"{k} {v}" for k, v in versions.items()) + "."
    lines += ["", *(f"- {condition}" for condition in head["conditions"])]
    for measurement in measurements:
        lines += ["", f"## {measurement.title}", "", measurement.what, ""]
        lines += _table(measurement)
        lines += ["", *(f"- {one.name}: {one.how}" for one in measurement.contenders)]
        lines += [f"- {note}" for note in measurement.notes]
    return "\n".join(lines) + "\n"


def _table(measurement: Measurement) -> list[str]:
    *_, headway = measurement.contenders
    compared = measurement.compared
    lines = ["| | | median | min | max |" + (" Headway is better by |" if compared else "")]
    lines.append("|---|---|--:|--:|--:|" + ("---|" if compared else ""))
    for figure in headway.trials[0]:
        for one in measurement.contenders:
            seen = spread(one.values(figure))
            numbers = " | ".join(_number(n) for n in (seen.median, seen.min, seen.max))
            times = ""
            if compared and one is not headway and figure in BETTER:
                by = ratio(headway, one, figure)
                times = f"{by.median:.2f} times ({by.min:.2f} to {by.max:.2f})"
            lines.append(f"| {figure} | {one.name} | {numbers} |" + f" {times} |" * compared)
    return lines


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value < 1 else f"{value:.2f}"
