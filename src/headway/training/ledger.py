"""Totals of a job's applied steps, independent of the row order that checks them."""

from dataclasses import dataclass, replace

from headway.data.order import Numbers, row_hash
from headway.data.stream.cursor import StreamCursor
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.receipt import ReceiptSpeed, ReceiptTokens, StepReport

_MASK_64_BIT = (1 << 64) - 1


@dataclass(frozen=True)
class Totals:
    """Totals over the applied steps of the whole job, earlier attempts included."""

    job_step: int = 0
    optimizer_steps: int = 0  # a parent's updates included
    row_sum: int = 0
    applications: int = 0
    input_tokens: int = 0
    trained_tokens: int = 0
    computed_tokens: int = 0
    step_seconds: float = 0.0
    loss_first: float | None = None
    loss_last: float | None = None
    grad_norm_first: float | None = None
    grad_norm_last: float | None = None
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
            input_tokens=state.input_tokens,
            trained_tokens=state.trained_tokens,
            computed_tokens=state.computed_tokens,
            step_seconds=state.step_seconds,
            loss_first=state.loss_first,
            loss_last=state.loss_last,
            grad_norm_first=state.grad_norm_first,
            grad_norm_last=state.grad_norm_last,
            cursor=state.cursor,
            read_cursor=state.read_cursor,
        )

    def add(self, report: StepReport, rows: Numbers) -> "Totals":
        """The totals with one more step, whose update has reached the weights.

        Args:
            report: of the finished step.
            rows: (R,) row numbers that its micro-batches carried.
        """
        is_first = self.loss_first is None
        return replace(
            self,
            job_step=report.step,
            optimizer_steps=self.optimizer_steps + 1,
            row_sum=(self.row_sum + row_hash(rows, report.epoch)) & _MASK_64_BIT,
            applications=self.applications + len(rows),
            input_tokens=self.input_tokens + report.input_tokens,
            trained_tokens=self.trained_tokens + report.trained_tokens,
            computed_tokens=self.computed_tokens + report.computed_tokens,
            step_seconds=self.step_seconds + report.seconds,
            loss_first=report.loss if is_first else self.loss_first,
            grad_norm_first=report.grad_norm if is_first else self.grad_norm_first,
            loss_last=report.loss,
            grad_norm_last=report.grad_norm,
        )

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
