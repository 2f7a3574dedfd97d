"""The training loop and one optimizer step, in the order it happens.

train_steps         batch, step, yield: what is yielded is finished
Stepper.take_step   gradients of all leaves, check, clip, update, report

Saving, evaluating and sampling belong to the caller, between two steps and nowhere else.

The loss is the mean over all trained tokens of the whole batch, however the batch is cut into
micro-batches. Leaf gradients are summed in one canonical tree, so the sum does not depend on where
each leaf was computed: a worker adds up its own leaves, its team adds up what the workers have.
"""

import math
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from headway.base.errors import BrokenContract, Cause, Remedy
from headway.base.host.utilization import Activity
from headway.base.pulse import Pulse
from headway.data.batching.batches import Batch, MicroTensors
from headway.data.batching.replay import split_replayed
from headway.data.order import Numbers, row_hash
from headway.model.forward import Forward
from headway.model.kernels.tensor_lists import add_to, norms, scale
from headway.runs.receipt import StepReport
from headway.runs.workers import Node, nodes_of
from headway.training.distributed.team import ALONE, Gradients, Share, StepDropped, Team
from headway.training.optimizer import set_learning_rate


def train_steps(
    batches: Iterable[Batch], take_step: Callable[[Batch], StepReport]
) -> Iterator[tuple[Batch, StepReport]]:
    """Take every step. What is yielded is finished: its update has reached the weights."""
    for batch in batches:
        yield batch, take_step(batch)


class Stepper:
    """Takes optimizer steps.

    Args:
        forward: the model.
        optimizer: over `parameters`.
        parameters: everything trainable, by name.
        rate: the learning rate of a step of the job.
        max_grad_norm: gradients are scaled down to this norm.
        first: global step before the job.
        seed: for dropout; a draw depends on seed, step and leaf, not on what ran before.
        pulse: beats with each micro-batch.
        at_step: step of the job that the weights are at.
        no_gradient_yet: names of parameters without a non-zero gradient so far.
        team: adds up what all workers computed.

    Attributes:
        at_step: step of the job that the weights are at, None in the middle of an update.
        no_gradient_yet: names of parameters without a non-zero gradient so far.
        micro: the newest micro-batch.
        carried_R: (R,) row numbers that the micro-batches of the last step held, of all workers.
    """

    def __init__(
        self,
        forward: Forward,
        optimizer: torch.optim.Optimizer,
        parameters: Mapping[str, nn.Parameter],
        *,
        rate: Callable[[int], float],
        max_grad_norm: float,
        first: int,
        seed: int,
        pulse: Pulse,
        at_step: int = 0,
        no_gradient_yet: Set[str] | None = None,
        team: Team = ALONE,
    ) -> None:
        self.forward = forward
        self.optimizer = optimizer
        self.parameters = dict(parameters)
        self.rate = rate
        self.max_grad_norm = max_grad_norm
        self.first = first
        self.seed = seed
        self.pulse = pulse
        self.at_step: int | None = at_step
        self.no_gradient_yet = set(self.parameters if no_gradient_yet is None else no_gradient_yet)
        self.micro: MicroTensors | None = None
        self.carried_R: Numbers = np.zeros(0, dtype=np.int64)
        self._team = team

    def take_step(
        self,
        batch: Batch,
        should_drop: Callable[[], bool] = lambda: False,
        may_drop: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> StepReport:
        """Take one step; when this returns, the update has reached the weights.

        Args:
            batch: the rows of the step.
            should_drop: asked before each micro-batch, and while other workers are waited for.
            may_drop: entered while gradients are computed; may raise StepDropped at any time.

        Raises:
            BrokenContract: loss or gradient is not finite, or there is no gradient at all; the
                weights are unchanged.
            StepDropped: `should_drop` or `may_drop` said so; the weights are unchanged.
        """
        start_s = time.perf_counter()
        self.forward.model.train()

        def drop_if_due() -> None:
            if should_drop():
                raise StepDropped

        try:
            with self.pulse.activity(Activity.COMPUTING):
                with self._telling_others(batch.step), may_drop():
                    share = self._gradients(batch, drop_if_due)
                together = self._team.add_up(share, drop_if_due)
                loss, self.carried_R = float(together.losses_K.double().sum()), together.rows_R
                norm = self._checked_norm(batch, loss, together.gradients)
                rate = self.rate(batch.step)
                set_learning_rate(self.optimizer, rate)
                self._apply(batch, together.gradients, norm)
                wait_for_device(self.parameters.values())
        finally:
            self.forward.discard_gradients()
            self.optimizer.zero_grad(set_to_none=True)
        own, replayed = split_replayed(self.carried_R)
        return StepReport(
            step=batch.step,
            global_step=self.first + batch.step,
            epoch=batch.epoch,
            loss=loss,
            grad_norm=norm,
            learning_rate=rate,
            rows=len(own),
            row_sum=row_hash(own, batch.epoch),
            replayed=len(replayed),
            replay_sum=row_hash(replayed, 0),
            trained_tokens=batch.num_trained,
            input_tokens=batch.num_tokens,
            computed_tokens=batch.num_computed,
            seconds=time.perf_counter() - start_s,
            workers=together.workers,
            all_workers=together.all_workers,
            groups=together.groups,
            all_groups=together.all_groups,
        )

    @contextmanager
    def _telling_others(self, step: int) -> Generator[None]:
        """Tell the other workers if this one cannot do its share of a step."""
        try:
            yield
        except Exception as error:
            self._team.give_up(step, error)
            raise

    def _gradients(self, batch: Batch, drop_if_due: Callable[[], None]) -> Share:
        """What this worker computes of a step, leaf by leaf up the tree."""
        start_s = time.perf_counter()
        losses: list[Tensor] = []
        sums: dict[Node, Gradients] = {}
        first = batch.first_leaf
        for node in nodes_of(range(first, first + len(batch.leaves))):
            tree: list[tuple[int, Gradients]] = []  # (height, sum), heights falling
            for number in node.leaves:
                torch.manual_seed(dropout_seed(self.seed, self.first + batch.step, number))
                for micro in batch.leaves[number - first]:
                    drop_if_due()
                    self.micro = micro
                    with self.forward.examined(micro, batch.num_trained):
                        loss = self.forward.loss(micro, batch.num_trained)
                        loss.backward()
                    losses.append(loss.detach())
                    self.forward.collect_gradients()
                    self.pulse.beat()
                merge(tree, self._take_gradients())
            ((_, sums[node]),) = tree
        return Share(
            step=batch.step,
            num_leaves=batch.num_leaves,
            losses_K=torch.stack(losses) if losses else torch.zeros(0),
            sums=sums,
            rows_R=batch.carried_R,
            order=zlib.crc32(batch.planned_R.tobytes()),
            seconds=time.perf_counter() - start_s,
        )

    def _take_gradients(self) -> Gradients:
        gradients = [p.grad for p in self.parameters.values()]
        for p in self.parameters.values():
            p.grad = None
        return gradients

    def _checked_norm(self, batch: Batch, loss: float, gradients: Gradients) -> float:
        """The norm of all gradients together.

        Raises:
            BrokenContract: it or the loss is not finite, or it is zero.
        """
        present = {n: g for n, g in zip(self.parameters, gradients, strict=True) if g is not None}
        norms_P = self._norms(list(present.values()))
        together_P = torch.linalg.vector_norm(norms_P).expand(1)
        norm, *each = torch.cat((together_P, norms_P)).tolist()  # one read
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._not_finite(batch, loss, norm)
        if norm == 0.0:
            raise self._no_gradient(batch)
        if self.no_gradient_yet:
            self.no_gradient_yet -= {n for n, own in zip(present, each, strict=True) if own > 0}
        return norm

    def _norms(self, gradients: list[Tensor]) -> Tensor:
        """(P,) norm of each gradient."""
        return norms(gradients)

    def _apply(self, batch: Batch, gradients: Gradients, norm: float) -> None:
        if norm > self.max_grad_norm:
            scale([g for g in gradients if g is not None], self.max_grad_norm / norm)
        for p, gradient in zip(self.parameters.values(), gradients, strict=True):
            p.grad = gradient
        self.at_step = None
        self.optimizer.step()
        self.forward.refresh_copies()
        self.at_step = batch.step

    def _not_finite(self, batch: Batch, loss: float, norm: float) -> BrokenContract:
        what = "loss" if not math.isfinite(loss) else "gradient"
        return BrokenContract(
            f"the {what} of step {batch.step} is not finite; the step was not applied",
            cause=Cause.NOT_FINITE,
            have=f"loss {loss:g}, gradient norm {norm:g}",
            need="finite numbers",
            remedies=(
                Remedy(f"--learning-rate {self.rate(batch.step) / 10:.1e}", "ten times smaller"),
                Remedy("headway eval", "checks the weights that the run started from"),
            ),
        )

    def _no_gradient(self, batch: Batch) -> BrokenContract:
        return BrokenContract(
            f"step {batch.step} has no gradient: it would change nothing",
            cause=Cause.NO_GRADIENT,
            have=f"gradient norm 0 over {len(self.parameters)} trainable tensors, "
            f"{batch.num_trained} trained tokens",
            need="a non-zero gradient",
            remedies=(Remedy("headway plan", "shows which tokens are trained"),),
        )


def wait_for_device(tensors: Iterable[Tensor]) -> None:
    """Wait until what was asked of a GPU is done: a CUDA call returns before it is."""
    for device in {tensor.device for tensor in tensors}:
        if device.type == "cuda":
            torch.cuda.synchronize(device)


def merge(tree: list[tuple[int, Gradients]], gradients: Gradients) -> None:
    """Add one leaf to the sums so far: two sums of one height become one of the next.

    Like carrying in binary addition; after 2**k leaves one sum is left, always of the same pairs.
    """
    height = 0
    while tree and tree[-1][0] == height:
        _, left = tree.pop()
        gradients = _sums(left, gradients)
        height += 1
    tree.append((height, gradients))


def _sums(left: Gradients, right: Gradients) -> Gradients:
    """The sums of two leaves, in the memory of the left one where both have a gradient."""
    pairs = list(zip(left, right, strict=True))
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    add_to([a for a, _ in both], [b for _, b in both])
    return [b if a is None else a for a, b in pairs]


def dropout_seed(seed: int, step: int, leaf: int) -> int:
    """The seed of a leaf's dropout: no two leaves of a run have the same."""
    return (((seed * 1_000_003 + step) << 16) + leaf) % (1 << 63)
