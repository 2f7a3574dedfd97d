"""What was applied so far, added up apart from the order's own code."""

from dataclasses import dataclass, field, fields

from headway.data.order import Numbers, row_hash
from headway.data.stream.cursor import StreamCursor
from headway.runs.receipt import ReceiptSpeed, ReceiptTokens, StepReport

_WORD = (1 << 64) - 1


@dataclass
class Ledger:
    """Sums over applied steps of the whole job, earlier attempts included.

    Only `add` changes it, and only after a step's update has reached the weights.
    """

    job_step: int = 0
    optimizer_steps: int = 0
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
    cursor: StreamCursor | None = None  # of a flow: where the next step's window begins
    read_cursor: StreamCursor | None = None  # of a flow: the end of the last step's window
    attempt_seconds: list[float] = field(
        default_factory=list[float]
    )  # of each step since the start

    def add(self, report: StepReport, rows: Numbers) -> None:
        """Count one applied step.

        Args:
            report: of the finished step.
            rows: the row numbers that its micro-batches carried.
        """
        self.job_step = report.step
        self.optimizer_steps += 1
        self.row_sum = (self.row_sum + row_hash(rows, report.epoch)) & _WORD
        self.applications += len(rows)
        self.input_tokens += report.input_tokens
        self.trained_tokens += report.trained_tokens
        self.computed_tokens += report.computed_tokens
        self.step_seconds += report.seconds
        self.attempt_seconds.append(report.seconds)
        if self.loss_first is None:
            self.loss_first, self.grad_norm_first = report.loss, report.grad_norm
        self.loss_last, self.grad_norm_last = report.loss, report.grad_norm

    def restore(self, saved: object) -> None:
        """Take over the sums that a checkpoint's state holds under the same names."""
        for one in fields(self):
            if hasattr(saved, one.name):
                setattr(self, one.name, getattr(saved, one.name))

    def tokens(self, truncated: int) -> ReceiptTokens:
        """The receipt's tokens."""
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
            flops_per_token: of one that was computed.
            peak_flops: FLOP/s of this machine at its best; None where nobody measured it.
        """
        seconds = self.step_seconds or float("inf")
        flops = self.computed_tokens * flops_per_token / seconds
        return ReceiptSpeed(
            tokens_per_second=self.input_tokens / seconds,
            trained_tokens_per_second=self.trained_tokens / seconds,
            flops_per_second=flops,
            mfu=flops / peak_flops if peak_flops else None,
        )
