"""Rows -> tensors, prefetched, with a bounded and named wait."""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass

import torch
from torch import Tensor

from headway.base.documents import DocumentGroup
from headway.base.pulse import Pulse
from headway.data.batching.packing import MicroBatch, pack
from headway.data.batching.rows import Rows
from headway.data.order import Numbers, RowOrder

_AHEAD = 2  # steps that are made ready while one is trained


@dataclass(frozen=True)
class MicroTensors:
    """A `MicroBatch` as tensors on the device; the same names and shapes."""

    rows_R: Numbers
    ids_N: Tensor
    positions_N: Tensor
    trained_at_M: Tensor
    targets_M: Tensor
    documents: tuple[DocumentGroup, ...]


@dataclass(frozen=True)
class Batch:
    """One optimizer step's rows."""

    step: int  # of the job, from 1
    epoch: int  # from 0
    leaves: tuple[tuple[MicroTensors, ...], ...]
    num_rows: int
    num_tokens: int  # input tokens of the rows
    num_trained: int
    num_computed: int  # of the input tokens: what several rows begin with counts once


def to_tensors(micro: MicroBatch, device: str) -> MicroTensors:
    """Move one micro-batch to the device."""

    def move(name: str) -> Tensor:
        return torch.from_numpy(getattr(micro, name)).to(device)

    return MicroTensors(
        rows_R=micro.rows_R,
        ids_N=move("ids_N"),
        positions_N=move("positions_N"),
        trained_at_M=move("trained_at_M"),
        targets_M=move("targets_M"),
        documents=micro.documents,
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
) -> Batch:
    """The batch of one step: a pure function, so that any step can be made at any time."""
    epoch, numbers = order.rows(step)
    packed = pack(rows, numbers, leaves, micro_batch_tokens, share=share)
    return Batch(
        step=step,
        epoch=epoch,
        leaves=tuple(tuple(to_tensors(m, device) for m in leaf) for leaf in packed),
        num_rows=len(numbers),
        num_tokens=sum(m.num_tokens for leaf in packed for m in leaf),
        num_trained=sum(len(m.targets_M) for leaf in packed for m in leaf),
        num_computed=sum(len(m.ids_N) for leaf in packed for m in leaf),
    )


def measure(
    rows: Rows, numbers: Numbers, micro_batch_tokens: int, device: str, *, share: bool = False
) -> tuple[MicroTensors, ...]:
    """Some rows as micro-batches for a loss that is only looked at (probes, evaluation)."""
    (leaf,) = pack(rows, numbers, 1, micro_batch_tokens, share=share)
    return tuple(to_tensors(m, device) for m in leaf)


def prefetched(
    make: Callable[[int], Batch],
    first: int,
    last: int,
    pulse: Pulse,
    *,
    look: Callable[[], None] = lambda: None,
    look_s: float = 0.25,
) -> Generator[Batch, None, None]:
    """Batches of steps `first` to `last`, made in a thread ahead of their use.

    The wait for one is entered in the pulse by name and looks up every `look_s` seconds, so that
    signals are seen and a watcher knows what is awaited; `look` is called then, and may end it by
    an exception. Whoever leaves does not wait for a batch that is still being made.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
    ready: deque[Future[Batch]] = deque()
    try:
        for step in range(first, last + 1):
            for ahead in range(step + len(ready), min(step + _AHEAD, last) + 1):
                ready.append(pool.submit(make, ahead))
            yield _result(ready.popleft(), step, pulse, look, look_s)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _result(
    future: "Future[Batch]", step: int, pulse: Pulse, look: Callable[[], None], look_s: float
) -> Batch:
    if future.done():
        return future.result()
    with pulse.waiting(f"the rows of step {step}"):
        while True:
            try:
                return future.result(timeout=look_s)
            except NotYet:
                if future.done():  # the batch itself failed with a time-out of its own
                    raise
                look()
                pulse.beat()
