"""Trainer facts: what is known about a run of transformers' Trainer before its first step."""

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from headway.base.files import write_whole
from headway.base.host.packages import nvidia_device
from headway.integrations.learning_rates import PlannedRates, planned_rates
from headway.integrations.sample_rows import NotSampled, SampledRows, sample_rows

STATE = "headway-callback.json"  # in a checkpoint of the Trainer
STATE_SCHEMA = "headway.callback-state/1"
# What Trainer.evaluate reports where nothing else computes metrics.
_METRICS = ("loss", "runtime", "samples_per_second", "steps_per_second", "model_preparation_time")
_BY_LENGTH = ("group_by_length", "batch_rebalance")
# They update within the backward pass, or hold other tensors than those of the model.
_FUSED = frozenset({"LayerWiseDummyOptimizer", "Lomo", "AdaLomo", "DummyOptim"})


@dataclass(frozen=True)
class CallbackState:
    """What the callback leaves in a checkpoint, for a run that resumes from it."""

    schema: str
    run: str
    global_step: int
    rows: int | None  # of the data
    data: str  # fingerprint of some of its rows, "" if they have no tokens


@dataclass(frozen=True)
class ResumedFrom:
    """The checkpoint that a run continues from.

    Attributes:
        name: of its folder, "" if it is not known.
        global_step: updates before it.
        epoch: that it says it is at.
        expected_epoch: that as many updates of this run's data and batches would be at; None if the
            data has no length.
        state: what the callback left there; None if it did not watch that run.
        skips_data: whether the Trainer skips as many batches as were trained before.
    """

    name: str
    global_step: int
    epoch: float
    expected_epoch: float | None
    state: CallbackState | None
    skips_data: bool


@dataclass(frozen=True)
class OptimizerFacts:
    """Whether the optimizer holds the trainable tensors.

    Attributes:
        trainable: tensors of the model that require a gradient.
        parameters: numbers in them.
        all_parameters: numbers in all tensors of the model.
        missing: names of trainable tensors that the optimizer does not hold; None if it keeps to
            itself what it holds.
        foreign: tensors of the optimizer that are not the model's.
        hides_gradients: there may be none when it steps, though there were some.
    """

    trainable: int
    parameters: int
    all_parameters: int
    missing: tuple[str, ...] | None
    foreign: int
    hides_gradients: bool = False


@dataclass(frozen=True)
class StartFacts:
    """What is known of a run before its first step.

    Attributes:
        program: the Trainer's class and the version of transformers.
        first: global step before the run.
        target: global step that it ends at.
        updates_per_epoch: None if the data has no length.
        rows: of the data; None if it has no length.
        rows_per_update: over all processes.
        epochs: asked for, where no number of steps is.
        processes: that train together.
        rates: None if the scheduler does not say.
        optimizer: what it holds.
        embedding_rows: None if the model has no embedding.
        sampled: what some rows hold, or why none was looked at.
        resumed: None for a run from nothing.
        device: that the model is on.
        unused_gpu: how an NVIDIA device was found that is not used and was not declined; "".
        wanted_metric: that decides which checkpoint is the best, "" for none.
        known_metrics: that an evaluation will report; None if only trying tells.
    """

    program: str
    first: int
    target: int
    updates_per_epoch: int | None
    rows: int | None
    rows_per_update: int
    epochs: float
    processes: int
    rates: PlannedRates | None
    optimizer: OptimizerFacts
    embedding_rows: int | None
    sampled: SampledRows | NotSampled
    resumed: ResumedFrom | None
    device: str
    unused_gpu: str
    wanted_metric: str
    known_metrics: tuple[str, ...] | None

    @property
    def planned(self) -> int:
        """Updates of this run."""
        return max(self.target - self.first, 0)


def read_facts(
    args: Any, state: Any, trainer: Any, checkpoint: str, parts: Mapping[str, Any]
) -> StartFacts:
    """Read the facts from what the Trainer gives its callbacks.

    Args:
        args: its TrainingArguments.
        state: its TrainerState.
        trainer: the Trainer itself; None if it is not known.
        checkpoint: the folder that it resumes from, "" for none.
        parts: the other arguments of `on_train_begin`.
    """
    import transformers

    model, loader = parts["model"], parts["train_dataloader"]
    planned = max(state.max_steps - state.global_step, 0)
    data = getattr(loader, "dataset", None)
    # Smaller than what was asked for, once `auto_find_batch_size` met a full memory.
    batch_size = getattr(trainer, "_train_batch_size", None) or args.train_batch_size
    name = type(trainer).__name__ if trainer is not None else "a trainer"
    return StartFacts(
        program=f"{name} of transformers {transformers.__version__}",
        first=state.global_step,
        target=state.max_steps,
        updates_per_epoch=_updates_per_epoch(loader, args.gradient_accumulation_steps),
        rows=len(data) if isinstance(data, Sized) else None,
        rows_per_update=batch_size * args.gradient_accumulation_steps * args.world_size,
        epochs=0.0 if args.max_steps > 0 else float(args.num_train_epochs),
        processes=args.world_size,
        rates=planned_rates(parts["lr_scheduler"], planned) if planned else None,
        optimizer=_optimizer_facts(model, parts["optimizer"], trainer),
        embedding_rows=_embedding_rows(model),
        sampled=_sample(args, model, loader, parts.get("processing_class")),
        resumed=_resumed(args, state, checkpoint, loader),
        device=str(args.device),
        unused_gpu="" if args.device.type != "cpu" or args.use_cpu else nvidia_device(),
        wanted_metric=_wanted_metric(args),
        known_metrics=_known_metrics(trainer),
    )


def predicts_next_token(model: Any) -> bool:
    """Whether labels are shifted by one, as causal language models do."""
    return getattr(model, "loss_type", None) == "ForCausalLM" or "CausalLM" in type(model).__name__


def save_state(folder: Path, state: CallbackState) -> None:
    """Leave what a later run wants to know in a checkpoint.

    Raises:
        MachineError: it cannot be written.
    """
    write_whole(folder / STATE, msgspec.json.encode(state))


def _length(loader: Any) -> int | None:
    try:
        return len(loader)
    except (TypeError, AttributeError, NotImplementedError):
        return None


def _updates_per_epoch(loader: Any, accumulation: int) -> int | None:
    num_batches = _length(loader)
    return None if num_batches is None else max(math.ceil(num_batches / accumulation), 1)


def _optimizer_facts(model: Any, optimizer: Any, trainer: Any) -> OptimizerFacts:
    named = dict(model.named_parameters())
    trainable = {name: p for name, p in named.items() if p.requires_grad}
    inner = getattr(optimizer, "optimizer", optimizer)
    groups: list[dict[str, Any]] = getattr(inner, "param_groups", [])
    is_hidden = type(inner).__name__ in _FUSED or not groups
    is_hidden = is_hidden or bool(getattr(trainer, "is_deepspeed_enabled", False))
    held = set[int]()
    if not is_hidden:
        held = {id(p) for group in groups for p in group["params"]}
    ours = {id(p) for p in named.values()}
    return OptimizerFacts(
        trainable=len(trainable),
        parameters=sum(p.numel() for p in trainable.values()),
        all_parameters=sum(p.numel() for p in named.values()),
        missing=None if is_hidden else tuple(n for n, p in trainable.items() if id(p) not in held),
        foreign=len(held - ours),
        hides_gradients=is_hidden,
    )


def _embedding_rows(model: Any) -> int | None:
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError, IndexError):
        return None
    return rows or None  # 0: this process holds another part of it


def _sample(args: Any, model: Any, loader: Any, tokenizer: Any) -> SampledRows | NotSampled:
    if loader is None:
        return NotSampled("the Trainer does not show its data")
    end_id = getattr(tokenizer, "eos_token_id", None)
    sampled = sample_rows(
        getattr(loader, "dataset", None),
        loader.collate_fn,
        max(args.train_batch_size, 1),
        shifted=predicts_next_token(model),
        end_id=end_id if isinstance(end_id, int) else None,
    )
    by_length = getattr(args, "train_sampling_strategy", "random") in _BY_LENGTH
    if by_length and isinstance(sampled, SampledRows):
        return replace(sampled, padding=None)  # batches of the run are others than these
    return sampled


def _resumed(args: Any, state: Any, checkpoint: str, loader: Any) -> ResumedFrom | None:
    if not state.global_step:
        return None
    return ResumedFrom(
        name=Path(checkpoint).name if checkpoint else "",
        global_step=state.global_step,
        epoch=float(state.epoch or 0.0),
        expected_epoch=_epoch_of(state.global_step, loader, args.gradient_accumulation_steps),
        state=_callback_state(Path(checkpoint)) if checkpoint else None,
        skips_data=not args.ignore_data_skip,
    )


def _epoch_of(global_step: int, loader: Any, accumulation: int) -> float | None:
    """The epoch that the Trainer writes down after this many updates."""
    num_batches, per_epoch = _length(loader), _updates_per_epoch(loader, accumulation)
    if not num_batches or not per_epoch:
        return None
    epochs, updates = divmod(global_step, per_epoch)
    return epochs + updates * accumulation / num_batches


def _callback_state(folder: Path) -> CallbackState | None:
    try:
        return msgspec.json.decode((folder / STATE).read_bytes(), type=CallbackState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _wanted_metric(args: Any) -> str:
    is_evaluated = str(getattr(args.eval_strategy, "value", args.eval_strategy)) != "no"
    name = args.metric_for_best_model if is_evaluated else None
    return "" if not name else name if name.startswith("eval_") else f"eval_{name}"


def _known_metrics(trainer: Any) -> tuple[str, ...] | None:
    if trainer is None or trainer.compute_metrics is not None:
        return None
    from transformers import Trainer

    for name in ("evaluate", "evaluation_loop", "log"):
        if getattr(type(trainer), name, None) is not getattr(Trainer, name, None):
            return None  # it may report more
    data = trainer.eval_dataset
    sets = [f"{name}_" for name in data] if isinstance(data, dict) else [""]
    return tuple(f"eval_{of}{metric}" for of in sets for metric in _METRICS)
