"""Messages between workers: reports go up to the root, decisions come down."""

import msgspec

from headway.base.errors import RefusalMessage


class Problem(msgspec.Struct, frozen=True):
    """Why a worker gave a step up.

    Attributes:
        refused: what happened, for people; None: its memory ran out.
    """

    refused: RefusalMessage | None = None


class WorkerReport(msgspec.Struct, frozen=True):
    """What one worker did in a step, before the update.

    Attributes:
        rank: of the worker.
        step: of the job that it is in.
        losses: of its micro-batches, as float32 numbers, leaf after leaf.
        rows: numbers of the rows that its micro-batches held.
        with_gradient: for each parameter, whether one of its leaves has a gradient of it.
        computing_s: seconds that its leaves took.
        peak_memory: bytes that its process took at most so far, without what workers share.
        weights: checksum of the weights before the step; None: not due.
        stop: who asked it to stop; "" if nobody did.
        problem: why it has no gradients; None if it has.
    """

    rank: int
    step: int
    losses: tuple[float, ...] = ()
    rows: tuple[int, ...] = ()
    with_gradient: tuple[bool, ...] = ()
    computing_s: float = 0.0
    peak_memory: int = 0
    weights: int | None = None
    stop: str = ""
    problem: Problem | None = None


class Reports(msgspec.Struct, frozen=True):
    """What a rank and all ranks below it report.

    Attributes:
        round: number of the exchange; a rank counts them alike.
        reports: in the order of ranks; empty where there is nothing to say but being there.
    """

    round: int
    reports: tuple[WorkerReport, ...] = ()


class Begin(msgspec.Struct, frozen=True, tag=True):
    """Take steps from here on.

    Attributes:
        round: number of the next exchange.
        first_step: of the job.
        micro_batch_tokens: tokens that run at once from here on.
        checkpoint: folder of the checkpoint to start from; "": the weights stay as they are.
    """

    round: int
    first_step: int
    micro_batch_tokens: int
    checkpoint: str = ""


class Apply(msgspec.Struct, frozen=True, tag=True):
    """All have reported: go on with the step.

    Attributes:
        round: number of the exchange that this answers.
        losses: of all micro-batches, leaf after leaf.
        with_gradient: for each parameter, whether any leaf has a gradient of it.
    """

    round: int
    losses: tuple[float, ...] = ()
    with_gradient: tuple[bool, ...] = ()


class End(msgspec.Struct, frozen=True, tag=True):
    """There is no further step."""


Decision = Begin | Apply | End
