"""Batches: rows of a step as tensors, prefetched in a thread."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as WaitTimeout
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from headway.base.documents import DocumentGroup
from headway.base.host.utilization import Activity
from headway.base.pulse import Pulse
from headway.data.batching.cost import cost_of
from headway.data.batching.packing import MicroBatch, pack
from headway.data.batching.rows import Rows
from headway.data.order import Numbers, RowOrder

_NUM_AHEAD = 2  # steps prepared while one is trained


@dataclass(frozen=True)
class MicroTensors:
    """A `MicroBatch` as tensors on the device, with the same names and shapes.

    Attributes:
        host_trained_at_M: `trained_at_M` once more, for decisions: reading it from a GPU would wait
            for everything that the GPU still has to do.
    """

    rows_R: Numbers
    ids_N: Tensor
    positions_N: Tensor
    trained_at_M: Tensor
    targets_M: Tensor
    documents: tuple[DocumentGroup, ...]
    host_trained_at_M: Numbers


@dataclass(frozen=True)
class Batch:
    """One optimizer step's rows."""

    step: int  # of the job, from 1
    epoch: int  # from 0
    planned_R: Numbers  # row numbers, as the order has them
    leaves: tuple[tuple[MicroTensors, ...], ...]  # that this worker computes
    num_tokens: int  # input tokens of the rows, of all leaves
    num_trained: int
    num_computed: int  # input tokens, with shared prefixes counted once
    num_leaves: int  # of all workers
    first_leaf: int = 0  # of this worker
    costs: tuple[float, ...] = ()  # of all leaves

    @property
    def carried_R(self) -> Numbers:
        """The row numbers that the micro-batches hold: what this worker trains in the step."""
        held = [micro.rows_R for leaf in self.leaves for micro in leaf]
        return np.concatenate(held) if held else np.zeros(0, dtype=np.int64)


def to_tensors(micro: MicroBatch, device: str) -> MicroTensors:
    """Move one micro-batch to the device."""

    def move(name: str) -> Tensor:
        tensor = torch.from_numpy(getattr(micro, name))
        if device == "cuda":  # from pinned memory, so that nobody waits for the copy
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)

    return MicroTensors(
        rows_R=micro.rows_R,
        ids_N=move("ids_N"),
        positions_N=move("positions_N"),
        trained_at_M=move("trained_at_M"),
        targets_M=move("targets_M"),
        documents=micro.documents,
        host_trained_at_M=micro.trained_at_M,
    )


def make_batch(
    rows: Rows,
    order: RowOrder,
    step: int,
    *,
    leaves: int,
    micro_batch_tokens: int,
    device: str,
    share: bool = False,
    own: Callable[[int], range] = range,
    square_weight: float = 0.0,
) -> Batch:
    """Make the batch of one step, as a pure function of the arguments.

    Args:
        rows: of the run.
        order: which rows make which step.
        step: of the job.
        leaves: of a full step.
        micro_batch_tokens: maximum per micro-batch.
        device: for the tensors.
        share: compute a common prefix once per micro-batch.
        own: the leaves that this worker computes, given their number; only these become tensors.
        square_weight: cost of a token's attention per token of its document.
    """
    epoch, numbers = order.rows(step)
    packed = pack(rows, numbers, leaves, micro_batch_tokens, share=share)
    mine = own(len(packed))
    return Batch(
        step=step,
        epoch=epoch,
        planned_R=numbers,
        leaves=tuple(tuple(to_tensors(m, device) for m in packed[n]) for n in mine),
        num_tokens=sum(m.num_tokens for leaf in packed for m in leaf),
        num_trained=sum(len(m.targets_M) for leaf in packed for m in leaf),
        num_computed=sum(len(m.ids_N) for leaf in packed for m in leaf),
        num_leaves=len(packed),
        first_leaf=mine.start,
        costs=tuple(sum(cost_of(m.documents, square_weight) for m in leaf) for leaf in packed),
    )


def evaluation_micro_batches(
    rows: Rows,
    numbers: Numbers,
    micro_batch_tokens: int,
    device: str,
    *,
    share: bool = False,
    leaves: int = 1,
    own: Callable[[int], range] = range,
) -> tuple[MicroTensors, ...]:
    """Rows as micro-batches for a loss without gradients (probes, evaluation).

    Args:
        rows: of the run.
        numbers: of the rows, at least one.
        micro_batch_tokens: maximum per micro-batch.
        device: for the tensors.
        share: compute a common prefix once per micro-batch.
        leaves: equal parts that workers may share, if there are as many rows.
        own: the leaves that this worker evaluates, given their number.
    """
    packed = pack(rows, numbers, leaves, micro_batch_tokens, share=share)
    return tuple(to_tensors(m, device) for n in own(len(packed)) for m in packed[n])


def prefetch(
    make: Callable[[int], Batch],
    first: int,
    last: int,
    pulse: Pulse,
    *,
    on_wait: Callable[[], None] = lambda: None,
    poll_s: float = 0.25,
) -> Generator[Batch, None, None]:
    """Batches of steps `first` to `last`, made ahead of use in a thread.

    The pulse names the wait for a batch. Closing the generator does not wait for a batch that is
    being made.

    Args:
        make: makes the batch of a step.
        first: first step.
        last: last step.
        pulse: shows what is waited for.
        on_wait: called every `poll_s` seconds while waiting; may end the wait with an exception.
        poll_s: seconds between the calls.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    ready: deque[Future[Batch]] = deque()
    try:
        for step in range(first, last + 1):
            for ahead in range(step + len(ready), min(step + _NUM_AHEAD, last) + 1):
                ready.append(pool.submit(make, ahead))
            yield _wait_for(ready.popleft(), step, pulse, on_wait, poll_s)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _wait_for(
    future: "Future[Batch]", step: int, pulse: Pulse, on_wait: Callable[[], None], poll_s: float
) -> Batch:
    if future.done():
        return future.result()
    with pulse.activity(Activity.DATA), pulse.waiting(f"the rows of step {step}"):
        while True:
            try:
                return future.result(timeout=poll_s)
            except WaitTimeout:
                if future.done():  # making the batch failed with a timeout of its own
                    raise
                on_wait()
                pulse.beat()
