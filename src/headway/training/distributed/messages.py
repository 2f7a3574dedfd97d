"""Messages between workers: reports go up to the root, decisions come down."""

from enum import StrEnum

import msgspec

from headway.base.errors import RefusalMessage
from headway.base.host.utilization import Spent

ANY_ROUND = 0


class Problem(msgspec.Struct, frozen=True):
    """Why a worker gave a step up.

    Attributes:
        refused: what happened, for people; None: its memory ran out.
        is_effect: what happened to another worker may be the reason.
    """

    refused: RefusalMessage | None = None
    is_effect: bool = False


class JointPart(StrEnum):
    """A part of the work that all workers with shards of a model do together."""

    STEP = "step"
    EVALUATE = "evaluate"
    SAMPLE = "sample"
    SAVE = "save"
    AUDIT = "audit"
    COMPARE = "compare"


class EvaluatedRows(StrEnum):
    """Which rows are evaluated."""

    PROBE = "probe"
    HELD_OUT = "held_out"


class LossSums(msgspec.Struct, frozen=True):
    """Losses of one micro-batch in an evaluation, summed.

    Attributes:
        losses: sum of the losses, as float64.
        squares: sum of their squares.
        num: trained tokens.
        rows: in the micro-batch.
    """

    losses: float
    squares: float
    num: int
    rows: int


class WorkerReport(msgspec.Struct, frozen=True):
    """What one worker did in a step, before the update, or in an evaluation or a trial.

    Attributes:
        rank: of the worker.
        step: of the job that it is in.
        losses: of its micro-batches, as float32 numbers, leaf after leaf.
        rows: numbers of the rows that its micro-batches held.
        with_gradient: for each parameter, whether one of its leaves has a gradient of it.
        order: checksum of the row numbers of the whole step, in order; None: no step.
        computing_s: seconds that its leaves took.
        spent: what its time went to so far.
        peak_memory: bytes that its process took at most so far, without what workers share.
        weights: checksum of the weights before the step; None: not due.
        evaluated: losses of its micro-batches in an evaluation, in their order.
        stop: who asked it to stop; "" if nobody did.
        problem: why it could not do its share; None if it did.
    """

    rank: int
    step: int
    losses: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()
    with_gradient: tuple[bool, ...] = ()
    order: int | None = None
    computing_s: float = 0.0
    spent: Spent = Spent()
    peak_memory: int = 0
    weights: int | None = None
    evaluated: tuple[LossSums, ...] = ()
    stop: str = ""
    problem: Problem | None = None


class Reports(msgspec.Struct, frozen=True):
    """What a rank and all ranks below it report.

    Attributes:
        round: number of the exchange; a rank counts them alike. `ANY_ROUND`: a problem, which ends
            whatever exchange there is.
        reports: in the order of ranks; empty where there is nothing to say but being there.
    """

    round: int
    reports: tuple[WorkerReport, ...] = ()


class Start(msgspec.Struct, frozen=True, tag=True):
    """The root is set up: start where it starts, and compute as it does.

    Attributes:
        round: number of the next exchange.
        settled: how it computes, as JSON of `Settled`.
        checkpoint: folder of the checkpoint to start from; "": the initial weights.
        layout: checksum of the trainable tensors' shapes and number formats.
    """

    round: int
    settled: bytes
    checkpoint: str = ""
    layout: int = 0


class Try(msgspec.Struct, frozen=True, tag=True):
    """Run the largest micro-batch, all at once, and report whether it fits in memory.

    Attributes:
        round: number of the next exchange.
        micro_batch_tokens: tokens that run at once.
    """

    round: int
    micro_batch_tokens: int


class Evaluate(msgspec.Struct, frozen=True, tag=True):
    """Compute the losses of one's share of some rows.

    Attributes:
        round: number of the next exchange.
        rows: which ones.
        micro_batch_tokens: that they are cut into.
        steps_follow: continue with the next step once all have reported.
    """

    round: int
    rows: EvaluatedRows
    micro_batch_tokens: int
    steps_follow: bool = False


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Take steps from here on.

    Attributes:
        round: number of the next exchange.
        first_step: of the job.
        micro_batch_tokens: tokens that run at once from here on.
    """

    round: int
    first_step: int
    micro_batch_tokens: int


class Apply(msgspec.Struct, frozen=True, tag=True):
    """All have reported: continue with the step, or after the evaluation.

    Attributes:
        round: number of the exchange that this answers.
        losses: of all micro-batches, leaf after leaf.
        with_gradient: for each parameter, whether any leaf has a gradient of it.
    """

    round: int
    losses: tuple[float, ...] = ()
    with_gradient: tuple[bool, ...] = ()


class Enter(msgspec.Struct, frozen=True, tag=True):
    """Do a part of the work that all workers do together, with a model in shards.

    Attributes:
        round: number of the next exchange.
        part: what it is.
        value: a step, which rows, or the folder of a checkpoint.
    """

    round: int
    part: JointPart
    value: str = ""


class End(msgspec.Struct, frozen=True, tag=True):
    """There is nothing more to do."""


Ask = Start | Try | Evaluate | Begin | Enter | End
Decision = Ask | Apply
