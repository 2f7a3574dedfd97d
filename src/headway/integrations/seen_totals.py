"""Seen totals: rows, tokens, losses and evaluations of a watched run, added up step by step."""

import math
from array import array
from dataclasses import dataclass, field

import numpy as np

from headway.base.events import StepDone
from headway.integrations.batch_counts import StepCounts
from headway.runs.receipt import Loss
from headway.runs.watched.watched_receipt import (
    SeenLearning,
    SeenRows,
    SeenTensors,
    SeenTokens,
    change_of,
)

MOST_CONTENTS = 4_000_000  # rows that are told apart: 32 MB


@dataclass
class SeenTotals:
    """What the applied steps of a run add up to."""

    losses: "array[float]" = field(default_factory=lambda: array("d"))
    rows: "array[int]" = field(default_factory=lambda: array("q"))
    grad_norms: list[float] = field(default_factory=list[float])  # the first and the last
    evaluations: list[float] = field(default_factory=list[float])  # the first and the last
    nonfinite_steps: int = 0
    skipped_steps: int = 0
    masked_steps: int = 0
    rate_max: float | None = None
    seen_rows: int = 0  # counted each time
    _input: int | None = 0
    _trained: int | None = 0
    _padding: int | None = 0
    _rows_known: bool = True
    _losses_known: bool = True
    _contents: "array[int] | None" = field(default_factory=lambda: array("q"))

    @property
    def applied(self) -> int:
        """Steps whose update was applied."""
        return len(self.rows)

    @property
    def seen_tokens(self) -> int:
        """Trained tokens, or the input's where those are not known."""
        return self._trained or self._input or 0

    def add(self, step: StepDone, counts: StepCounts, *, loss_known: bool = True) -> None:
        """Add an applied step."""
        self.losses.append(step.loss)
        self.rows.append(step.rows)
        self.seen_rows += step.rows
        self.grad_norms = [*self.grad_norms[:1], step.grad_norm]
        self.rate_max = max(self.rate_max or 0.0, step.learning_rate)
        self._losses_known = self._losses_known and loss_known
        self._rows_known = self._rows_known and counts.rows is not None
        self._input = _plus(self._input, counts.input)
        self._trained = _plus(self._trained, counts.trained)
        self._padding = _plus(self._padding, counts.padding)
        if counts.contents is None or self.seen_too_many:
            self._contents = None
        elif self._contents is not None:
            self._contents.extend(counts.contents)

    @property
    def seen_too_many(self) -> bool:
        """Whether there are too many rows to tell them apart."""
        return self._contents is not None and len(self._contents) > MOST_CONTENTS

    def seen(self, in_data: int | None) -> SeenRows:
        """The rows, told apart where they can be.

        Args:
            in_data: rows of the data; None if it has no length.
        """
        if not self._rows_known:
            return SeenRows(None, in_data)
        if not self._contents:
            return SeenRows(self.seen_rows, in_data)
        times = np.unique(np.array(self._contents), return_counts=True)[1]
        least, most = int(times.min()), int(times.max())
        return SeenRows(self.seen_rows, in_data, len(times), least, most)

    def tokens(self) -> SeenTokens:
        """The tokens."""
        return SeenTokens(self._input, self._trained, self._padding)

    def learned(self, tensors: SeenTensors | None) -> SeenLearning:
        """What the losses, and the weights, showed."""
        losses = list(self.losses) if self._losses_known else []
        loss, averaged = change_of(losses, self.rows)
        held_out = None
        if len(self.evaluations) == 2 and all(map(math.isfinite, self.evaluations)):
            held_out = Loss(self.evaluations[0], self.evaluations[1], 0, 0.0)
        norms = self.grad_norms
        return SeenLearning(
            loss=loss,
            averaged=averaged,
            held_out=held_out,
            loss_first=losses[0] if losses else None,
            loss_last=losses[-1] if losses else None,
            grad_norm_first=norms[0] if norms else None,
            grad_norm_last=norms[-1] if norms else None,
            nonfinite_steps=self.nonfinite_steps,
            skipped_steps=self.skipped_steps,
            rate_max=self.rate_max,
            tensors=tensors,
        )


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
