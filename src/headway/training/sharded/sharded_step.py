"""One optimizer step of a model in shards.

Gradients are added over workers in every backward pass, each worker keeping its part of the sum. So
all run the same number of micro-batches: one that has fewer runs others that count nothing.
"""

import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from headway.data.batching.batches import Batch, MicroTensors
from headway.model.kernels.tensor_lists import norms
from headway.model.sharded import local
from headway.runs.receipt import StepReport
from headway.runs.workers import Node
from headway.training.distributed.messages import JointPart
from headway.training.distributed.team import Share, StepDropped
from headway.training.sharded.sharded_team import ShardedTeam
from headway.training.step import Stepper, dropout_seed


class ShardedStepper(Stepper):
    """Takes optimizer steps; see `Stepper`. Its batches have the leaves of all workers."""

    @property
    def _shards(self) -> ShardedTeam:
        return cast("ShardedTeam", self._team)

    def take_step(
        self,
        batch: Batch,
        should_drop: Callable[[], bool] = lambda: False,
        may_drop: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> StepReport:
        """Take one step; one that has begun is finished, since nobody can leave it alone."""
        del may_drop
        if should_drop():
            raise StepDropped
        with self._shards.enter(JointPart.STEP, str(batch.step)):
            return super().take_step(batch)

    def _gradients(self, batch: Batch, drop_if_due: Callable[[], None]) -> Share:
        del drop_if_due
        start_s = time.perf_counter()
        leaves = self._shards.leaves(batch.num_leaves)
        losses: list[Tensor] = []
        rows = [micro.rows_R for leaf in leaves for micro in batch.leaves[leaf]]
        for leaf in leaves:
            torch.manual_seed(dropout_seed(self.seed, self.first + batch.step, leaf))
            losses += [self._run(micro, batch.num_trained) for micro in batch.leaves[leaf]]
        for _ in range(self._most_micro_batches(batch) - len(losses)):
            self._run(_smallest(batch), batch.num_trained, weight=0.0)
        parameters = self.parameters.values()
        return Share(
            step=batch.step,
            num_leaves=batch.num_leaves,
            losses_K=torch.stack(losses) if losses else torch.zeros(0),
            sums={Node(0, 0): [p.grad for p in parameters]},
            rows_R=np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64),
            order=zlib.crc32(batch.planned_R.tobytes()),
            seconds=time.perf_counter() - start_s,
        )

    def _run(self, micro: MicroTensors, num_trained: int, weight: float = 1.0) -> Tensor:
        self.micro = micro
        loss = self.forward.loss(micro, num_trained)
        (loss if weight == 1.0 else loss * weight).backward()
        self.pulse.beat()
        return loss.detach()

    def _most_micro_batches(self, batch: Batch) -> int:
        """Micro-batches of the worker that has the most."""
        ranks = range(self._shards.tree.workers)
        leaves = [self._shards.tree.leaves_of(rank, batch.num_leaves) for rank in ranks]
        return max(sum(len(batch.leaves[leaf]) for leaf in own) for own in leaves)

    def _norms(self, gradients: list[Tensor]) -> Tensor:
        """(P,) norm of each gradient, the same bits in every worker."""
        squares_P = norms([local(gradient) for gradient in gradients], torch.float64).square()
        dist.all_reduce(squares_P)
        return (squares_P / self._shards.tree.groups).sqrt().float()


def _smallest(batch: Batch) -> MicroTensors:
    micros: list[Any] = [micro for leaf in batch.leaves for micro in leaf]
    return min(micros, key=lambda micro: len(micro.ids_N))
