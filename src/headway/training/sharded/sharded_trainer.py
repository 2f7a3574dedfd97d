"""Trainer of a model in shards: the same work, entered by all workers together."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import msgspec
import torch
import torch.distributed as dist
from torch import Tensor, nn

from headway.base.errors import Finding
from headway.base.events import Event, Noted, Sampled
from headway.base.pulse import Phase
from headway.model.kernels.compile_level import CompileLevel
from headway.model.lazy_weights import StoredTensors
from headway.model.load import is_adapter, trainable
from headway.model.sharded import Gathered
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Measured, TensorAudit
from headway.runs.settled import Settled
from headway.training.distributed.messages import EvaluatedRows, JointPart, LossSums
from headway.training.distributed.place import TeamPlace
from headway.training.evaluation.audit import audit, compare_saved
from headway.training.evaluation.evaluate import mean_of, sum_losses
from headway.training.evaluation.sample import samples
from headway.training.phases import Phases
from headway.training.setup import Holding, Setup, StartState, find_start, set_up
from headway.training.sharded.sharded_checkpoint import (
    ShardedSnapshot,
    load_sharded_moments,
    load_sharded_weights,
    stored_name,
)
from headway.training.sharded.sharded_step import ShardedStepper
from headway.training.sharded.sharded_team import ShardedMember, ShardedRoot, asking_why
from headway.training.sharded.sharding import Sharding
from headway.training.trainer import Guard, Trainer, show_totals
from headway.training.trials.probes import longest_documents, mean_loss
from headway.training.trials.rows_to_try import first_rows
from headway.training.trials.settle import ROUNDING, ROUNDING_TOKENS, settle_packing
from headway.training.weights.checkpoint import Snapshot


class ShardedTrainer(Trainer):
    """A job that is ready for its next step, in one of the workers; see `Trainer`.

    Args:
        sharding: where the shards are.
        folder, plan, settled, setup, start, phase, team: as for `Trainer`.
    """

    stepper_kind = ShardedStepper

    def __init__(
        self,
        sharding: Sharding,
        folder: RunFolder,
        plan: Plan,
        settled: Settled,
        setup: Setup,
        start: StartState,
        phase: Phases,
        team: ShardedRoot | ShardedMember,
    ) -> None:
        self._sharding = sharding
        self._shards = team
        self._folder = folder
        led: Any = team  # a member's trainer is not asked for what only a root can do
        super().__init__(folder, plan, settled, setup, start, phase, led)

    @property
    def weights_are_counted(self) -> bool:
        """Whether the weights are those after the last counted step, and all shards are there."""
        return super().weights_are_counted and not self._shards.is_broken

    def halve_micro_batch(self, error: Exception) -> Finding:
        """Nothing can be tried again: the other workers are in the middle of the step.

        Raises:
            Exception: `error`.
        """
        raise error

    def snapshot(self) -> Snapshot:
        """What writes the state, together with all workers."""
        setup = self.setup
        made = ShardedSnapshot(
            self._folder.path,
            self._shards,
            self._sharding,
            setup.forward.weights,
            setup.optimizer,
            setup.parameters,
        )
        return cast("Any", made)

    def evaluate(self, rows: EvaluatedRows) -> Measured:
        """The loss of some rows, of which each worker evaluates its share."""
        micros = self.probes.batches(rows)
        workers = dist.get_world_size()
        own = micros[dist.get_rank() :: workers]
        # All gather each layer together, so all run as many: some run one that counts nothing.
        num = math.ceil(len(micros) / workers)
        idle = [min(micros, key=lambda micro: len(micro.ids_N))] * (num - len(own))
        with self.probes.phase(rows, num), self._shards.enter(JointPart.EVALUATE, rows):
            found = sum_losses(self.setup.forward, (*own, *idle), self._phase.pulse)
            return mean_of(self._of_all(found[: len(own)], len(micros)))

    def _of_all(self, own: Sequence[LossSums], num: int) -> list[LossSums]:
        """What all workers found, in the order of micro-batches.

        Args:
            own: every n-th micro-batch from this worker's rank on, n being the workers.
            num: micro-batches of all.
        """
        found = torch.zeros(num, 4, dtype=torch.float64, device=self.plan.machine.device)
        for row, one in zip(found[dist.get_rank() :: dist.get_world_size()], own, strict=True):
            row.copy_(torch.tensor(msgspec.structs.astuple(one), dtype=torch.float64))
        dist.all_reduce(found)  # of a number and zeros: exact, whatever the order
        return [
            LossSums(losses, squares, int(num), int(rows))
            for losses, squares, num, rows in found.tolist()
        ]

    def _measure(
        self, rows: EvaluatedRows, may_leave: Guard, *, steps_follow: bool = False
    ) -> Measured:
        del steps_follow
        with may_leave():  # a stop before it; nobody leaves in the middle
            return self.evaluate(rows)

    def samples(self, global_step: int) -> Iterator[Sampled]:
        """Text of the current weights; no clock ends it, since clocks differ."""
        forward, pulse = self.setup.forward, self._phase.pulse
        total = self.plan.evaluation.sample_tokens
        with self._phase(Phase.SAMPLING, total=total, unit="tokens"):
            with self._shards.enter(JointPart.SAMPLE, str(global_step)):
                made = list(samples(forward, self.plan, global_step, pulse, math.inf))
            yield from made

    def audit(self, checkpoint: Path | None) -> TensorAudit:
        """Compare the weights with those that the job started from; see `Trainer.audit`."""
        with (
            self._phase(Phase.AUDITING_WEIGHTS),
            self._shards.enter(JointPart.AUDIT, str(checkpoint or "")),
        ):
            self.setup.optimizer.state.clear()  # saved, and no step comes any more
            model, _ = self._sharding.starting_model(self.plan, torch.float32)
            now = cast("Mapping[str, nn.Parameter]", Gathered(self.setup.parameters))
            found = audit(now, Gathered(trainable(model)), self.stepper.no_gradient_yet)
            return found if checkpoint is None else compare_saved(found, now, _Saved(checkpoint))


class _Saved(Mapping[str, Tensor]):
    """The weights in a checkpoint, by the names that a model in training has for them."""

    def __init__(self, checkpoint: Path) -> None:
        self._stored = StoredTensors(checkpoint)
        self._is_adapter = is_adapter(checkpoint)

    def __getitem__(self, name: str) -> Tensor:
        return self._stored[stored_name(name) if self._is_adapter else name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def start_sharded_trainer(
    folder: RunFolder,
    plan: Plan,
    settled: Settled,
    phase: Phases,
    report: Callable[[Event], None],
    place: TeamPlace,
    on_stop: Callable[[str], None],
    stay: Callable[[], AbstractContextManager[None]],
) -> tuple[Trainer, StartState]:
    """Set a job up in the root; the arguments are those of `start_trainer`, and one more.

    Args:
        folder: of the run.
        plan: of the run.
        settled: planned values, or those of an earlier attempt.
        phase: current phase.
        report: gets what was restored and what was adjusted.
        place: of this process among the workers.
        on_stop: called with who asked another worker to stop.
        stay: entered where a stop request must not end what is running.
    """
    assert place.links, "a single worker holds the whole model"
    with asking_why(place.links):
        sharding = Sharding.of(place.tree, plan.machine.device)
        setup, now, findings = set_up_shards(plan, settled, sharding, phase)
    start = find_start(folder, plan, setup, phase, report)
    show_totals(phase.pulse, plan, start.totals)
    if now != settled:
        now.save(folder.path)
    for finding in findings:
        report(Noted(finding))
    parameters = list(setup.parameters.values())
    team = ShardedRoot(place.tree, place.links, parameters, on_stop, stay)
    folder_of_start = str(start.checkpoint.path.resolve()) if start.checkpoint else ""
    team.start(msgspec.json.encode(now), folder_of_start)
    return ShardedTrainer(sharding, folder, plan, now, setup, start, phase, team), start


def set_up_shards(
    plan: Plan, settled: Settled, sharding: Sharding, phase: Phases
) -> tuple[Setup, Settled, tuple[Finding, ...]]:
    """Set a job up, and try what has not been tried; all workers do, with the same result.

    Nothing that a clock measures is tried: no two workers would measure the same. The number format
    is that of the shards, which are therefore made again if it is not the one of the trials.

    Args:
        plan: of the run.
        settled: planned values, or those of an earlier attempt.
        sharding: where the shards are.
        phase: current phase.
    """
    planned = getattr(torch, settled.compute_dtype)
    first = planned if settled.has_tried else torch.float32
    with phase(Phase.LOADING_MODEL):
        setup = set_up(plan, settled, phase.pulse, holding(sharding, first))
    if settled.has_tried:
        _restore(setup, settled)
        return setup, replace(settled, compiled=CompileLevel.NOTHING), _uncompiled(settled)
    with phase(Phase.CHECKING_PACKING):
        micro, prefixed = first_rows(setup.rows, setup.order, plan)
        settled, findings = settle_packing(plan, settled, setup.forward, micro, prefixed)
        findings += _uncompiled(settled)
        settled = replace(settled, has_tried=True, compiled=CompileLevel.NOTHING)
        if planned == torch.float32:
            return setup, settled, findings
        some = longest_documents(micro, ROUNDING_TOKENS)
        exact = mean_loss(setup.forward, some)
        del setup  # its memory is needed
        setup = set_up(plan, settled, phase.pulse, holding(sharding, planned))
        _restore(setup, settled)
        rounded = mean_loss(setup.forward, some)
        if abs(rounded - exact) <= ROUNDING * exact:
            return setup, settled, findings
        have = f"loss {rounded:.4f} in {settled.compute_dtype}, {exact:.4f} in float32"
        what = f"computes in float32: {settled.compute_dtype} changes the loss"
        settled = replace(settled, compute_dtype="float32")
        setup = set_up(plan, settled, phase.pulse, holding(sharding, torch.float32))
        _restore(setup, settled)
    return setup, settled, (*findings, Finding("adjusted", what, have=have))


def holding(sharding: Sharding, dtype: torch.dtype) -> Holding:
    """How a worker holds its shards, which compute in a number format."""
    return Holding(
        partial(sharding.starting_model, dtype=dtype), load_sharded_weights, load_sharded_moments
    )


def _uncompiled(settled: Settled) -> tuple[Finding, ...]:
    """The note about a run that was compiled until its model was sharded."""
    what = "computes uncompiled: a model in shards is not compiled"
    return (Finding("adjusted", what),) if settled.compiled.compiles else ()


def _restore(setup: Setup, settled: Settled) -> None:
    setup.forward.use_custom_logits(settled.custom_logits)
    setup.forward.run_separately(settled.run_separately)
