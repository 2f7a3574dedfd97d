"""Curves of a run: loss, learning rate and gradient norm, from wherever it logged them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from headway.base.foreign.trainer_state import TrainerState
from headway.guard.facts import ProgressRecord
from headway.guard.judge.traces.event_files import Scalar

OUTPUT = "its output"
_NO_TRAINING = re.compile(r"(^|[/_.-])(eval|val|valid|validation|test|dev)([/_.-]|$)")
_LOSS = re.compile(r"(^|[/_.-])loss(_step|_epoch)?$")
_RATE = re.compile(r"(^|[/_.-])(learning_rate|lr)(-\w+)?(/pg\d+)?$")
_GRAD_NORM = re.compile(r"(^|[/_.-])grad_?norm$")


@dataclass(frozen=True)
class Point:
    """What was logged at one step; None for what was not.

    Attributes:
        step: as it was logged.
        at_s: since the start of the command.
    """

    step: int | None = None
    at_s: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True)
class TrainingCurve:
    """Points in the order they were logged, of training alone.

    Attributes:
        source: where they were read, for people.
        points: without repetitions.
        is_rounded: whether small numbers may have been printed as zero.
    """

    source: str
    points: tuple[Point, ...]
    is_rounded: bool = False

    @property
    def losses(self) -> tuple[tuple[int | None, float], ...]:
        """(step, loss) where it was logged."""
        return tuple((one.step, one.loss) for one in self.points if one.loss is not None)

    @property
    def rates(self) -> tuple[tuple[int | None, float], ...]:
        """(step, learning rate) where it was logged."""
        return tuple(
            (one.step, one.learning_rate) for one in self.points if one.learning_rate is not None
        )

    @property
    def grad_norms(self) -> tuple[tuple[int | None, float], ...]:
        """(step, norm of the gradient) where it was logged."""
        return tuple((one.step, one.grad_norm) for one in self.points if one.grad_norm is not None)


def of_output(records: Iterable[ProgressRecord], lines: Iterable[str]) -> TrainingCurve:
    """The curve of what a command printed.

    Args:
        records: of its output.
        lines: of its output, that tell how numbers were printed.
    """
    points: list[Point] = []
    for one in records:
        point = Point(one.step, one.at_s, one.loss, one.learning_rate, one.grad_norm)
        if one.is_of_training and one.run_seconds is None and _says_something(point):
            # A bar is drawn again and again, with the numbers of its last step.
            if points and one.is_bar and _is_same(points[-1], point):
                continue
            points.append(point)
    return TrainingCurve(
        OUTPUT, tuple(points), is_rounded=any(_ROUNDED.search(line) for line in lines)
    )


# "lr 0.0000" may be 1e-5, "'learning_rate': 0.0" is what it says.
_ROUNDED = re.compile(r"\b(lr|learning.rate|loss)\b\W{0,4}0\.00+(?![\d.eE])", re.IGNORECASE)


def of_state(state: TrainerState, since: int, name: str) -> TrainingCurve:
    """The curve in a Trainer's log.

    Args:
        state: that it saved.
        since: the step that this command began at.
        name: of the file, for people.
    """
    return TrainingCurve(
        name,
        tuple(
            Point(one.step, None, one.loss, one.learning_rate, one.grad_norm)
            for one in state.entries
            if one.step > since
        ),
    )


def of_events(scalars: Iterable[Scalar], path: Path) -> TrainingCurve:
    """The curve in an event file of TensorBoard.

    Args:
        scalars: of the file.
        path: of the file.
    """
    points: dict[int, Point] = {}
    for one in scalars:
        tag = one.tag.lower()
        if _NO_TRAINING.search(tag) or tag.endswith(
            "train/train_loss"
        ):  # the mean of the whole run
            continue
        point = points.get(one.step, Point(one.step))
        if _LOSS.search(tag) and point.loss is None:
            points[one.step] = replace(point, loss=one.value)
        elif _RATE.search(tag):
            points[one.step] = replace(point, learning_rate=one.value)
        elif _GRAD_NORM.search(tag):
            points[one.step] = replace(point, grad_norm=one.value)
    return TrainingCurve(path.name, tuple(points[step] for step in sorted(points)))


def _says_something(point: Point) -> bool:
    return any(v is not None for v in (point.loss, point.learning_rate, point.grad_norm))


def _is_same(first: Point, second: Point) -> bool:
    return repr(replace(first, at_s=None)) == repr(replace(second, at_s=None))
