"""Training ledger: totals of the applied steps, counted independently of the row order."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np

from headway.data.batching.replay import split_replayed
from headway.data.order import MASK_64_BIT, Numbers, row_hash
from headway.data.stream.cursor import StreamCursor
from headway.runs.checkpoint_state import CheckpointState, RowsDue
from headway.runs.receipt import ReceiptSpeed, ReceiptTokens, StepReport


@dataclass(frozen=True)
class Totals:
    """Totals over the applied steps of the whole job, earlier attempts included."""

    job_step: int = 0
    optimizer_steps: int = 0  # a parent's updates included
    row_sum: int = 0
    applications: int = 0
    replayed: int = 0
    replay_sum: int = 0
    deviations: dict[str, int] = field(default_factory=dict[str, int])  # see `CheckpointState`
    input_tokens: int = 0
    trained_tokens: int = 0
    computed_tokens: int = 0
    step_seconds: float = 0.0
    loss_first: float | None = None
    loss_last: float | None = None
    grad_norm_first: float | None = None
    grad_norm_last: float | None = None
    due: RowsDue | None = None  # of a stream
    cursor: StreamCursor | None = None  # of a stream: start of the next step's window
    read_cursor: StreamCursor | None = None  # of a stream: end of the last step's window

    @classmethod
    def from_state(cls, state: CheckpointState) -> "Totals":
        """The totals that a checkpoint holds."""
        return cls(
            job_step=state.job_step,
            optimizer_steps=state.optimizer_steps,
            row_sum=state.row_sum,
            applications=state.applications,
            replayed=state.replayed,
            replay_sum=state.replay_sum,
            deviations=state.deviations,
            input_tokens=state.input_tokens,
            trained_tokens=state.trained_tokens,
            computed_tokens=state.computed_tokens,
            step_seconds=state.step_seconds,
            loss_first=state.loss_first,
            loss_last=state.loss_last,
            grad_norm_first=state.grad_norm_first,
            grad_norm_last=state.grad_norm_last,
            due=state.due,
            cursor=state.cursor,
            read_cursor=state.read_cursor,
        )

    def add(self, report: StepReport, carried_R: Numbers, planned_R: Numbers) -> "Totals":
        """The totals with one more step, whose update has reached the weights.

        Args:
            report: of the finished step.
            carried_R: (R,) row numbers that its micro-batches held.
            planned_R: (R,) row numbers that the order has for it.
        """
        is_first = self.loss_first is None
        own, replayed = split_replayed(carried_R)
        return replace(
            self,
            job_step=report.step,
            optimizer_steps=self.optimizer_steps + 1,
            row_sum=(self.row_sum + row_hash(own, report.epoch)) & MASK_64_BIT,
            applications=self.applications + len(own),
            replayed=self.replayed + len(replayed),
            replay_sum=(self.replay_sum + row_hash(replayed, 0)) & MASK_64_BIT,
            deviations=_deviations(self.deviations, report.epoch, carried_R, planned_R),
            input_tokens=self.input_tokens + report.input_tokens,
            trained_tokens=self.trained_tokens + report.trained_tokens,
            computed_tokens=self.computed_tokens + report.computed_tokens,
            step_seconds=self.step_seconds + report.seconds,
            loss_first=report.loss if is_first else self.loss_first,
            grad_norm_first=report.grad_norm if is_first else self.grad_norm_first,
            loss_last=report.loss,
            grad_norm_last=report.grad_norm,
        )

    @property
    def num_repeated(self) -> int:
        """Times that a row was trained beyond the plan."""
        return sum(extra for extra in self.deviations.values() if extra > 0)

    @property
    def num_missing(self) -> int:
        """Times that a row was not trained although it was planned."""
        return -sum(extra for extra in self.deviations.values() if extra < 0)

    def tokens(self, truncated: int) -> ReceiptTokens:
        """The receipt's tokens.

        Args:
            truncated: conversations that were cut to max_length.
        """
        padding = max(0, self.computed_tokens - self.input_tokens)
        return ReceiptTokens(
            input=self.input_tokens,
            trained=self.trained_tokens,
            padding=padding,
            padding_share=padding / self.computed_tokens if self.computed_tokens else 0.0,
            truncated=truncated,
            shared=max(0, self.input_tokens - self.computed_tokens),
        )

    def speed(self, flops_per_token: float, peak_flops: float | None) -> ReceiptSpeed:
        """The receipt's speed, over the time inside steps.

        Args:
            flops_per_token: of a computed token.
            peak_flops: FLOP/s of this machine at its best, None if unmeasured.
        """
        seconds = self.step_seconds or float("inf")
        flops = self.computed_tokens * flops_per_token / seconds
        return ReceiptSpeed(
            tokens_per_second=self.input_tokens / seconds,
            trained_tokens_per_second=self.trained_tokens / seconds,
            flops_per_second=flops,
            mfu=flops / peak_flops if peak_flops else None,
        )


def _deviations(
    before: dict[str, int], epoch: int, carried_R: Numbers, planned_R: Numbers
) -> dict[str, int]:
    """Rows that were trained more (> 0) or less (< 0) often than planned, by epoch and row."""
    if len(carried_R) == len(planned_R) and (np.sort(carried_R) == np.sort(planned_R)).all():
        return before
    extra = Counter(before)
    extra.update(f"{epoch + 1}:{row}" for row in carried_R.tolist())
    extra.subtract(f"{epoch + 1}:{row}" for row in planned_R.tolist())
    return {row: num for row, num in extra.items() if num}
