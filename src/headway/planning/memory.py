"""Peak memory of the trainer, counted part by part, and what a plan does where there is little.

A step is fullest at one of three moments: when a micro-batch's loss is computed and all that its
layers keep is there; when its backward pass ends and all its gradients are; and when these are
added to the weights' own.
"""

from dataclasses import dataclass, replace

from headway.base import units
from headway.base.errors import MachineError, Remedy
from headway.config.settings import Settings
from headway.model.sizes import ModelShape, Work, kept_bytes, lora_parameters, passing_bytes
from headway.planning.run_time import Here
from headway.planning.sizing import Notes
from headway.runs.plan import (
    DataPlan,
    LoraPlan,
    MachinePlan,
    MemoryPlan,
    ModelPlan,
    SavesPlan,
    StepsPlan,
    computed_tokens,
)

WITHIN = 0.15  # how far a foretold peak may be from the real one
SMALLEST = 64  # tokens of a micro-batch that a plan chooses
_FIRST_USE = 45_000_000  # of libraries' code and buffers, when the first products are computed
# A processor's bf16 products are compiled for their very shape, and kept: so many, each so large.
PRODUCTS_KEPT = 1024
_PRODUCT_BYTES = 330_000
_PRODUCTS = {"text": 100, "ragged": 60}  # of a run whose rows are equally long; of a micro-batch
_WITH_ADAPTERS = 3  # times as many: each layer's product has two small ones beside it


@dataclass(frozen=True)
class Need:
    """The parts of a plan that memory depends on."""

    model: ModelPlan
    shape: ModelShape
    steps: StepsPlan
    data: DataPlan
    machine: MachinePlan
    saves: SavesPlan

    @property
    def value_bytes(self) -> int:
        """Of a number that is computed with."""
        return 2 if self.machine.compute_dtype == "bfloat16" else 4

    @property
    def leaf_tokens(self) -> int:
        """Of a leaf, about."""
        return -(-computed_tokens(self.steps, self.data) // self.steps.leaves)

    @property
    def work(self) -> Work:
        """The largest micro-batch: the longest row where it is longer than what runs at once."""
        lengths, text = self.data.lengths, self.data.kind == "text"
        tokens = max(lengths.max, min(self.steps.micro_batch_tokens, self.leaf_tokens))
        return Work(
            tokens=tokens,
            trained=round(tokens * (1 - self.data.untrained)),
            document=lengths.max if text or lengths.max >= tokens else round(lengths.p95),
            value_bytes=self.value_bytes,
            frozen=self.model.lora is not None,
            checkpointed=self.machine.gradient_checkpointing,
        )


def foretell_memory(need: Need, here: Here) -> MemoryPlan:
    """Peak memory of the trainer, part by part; the saves beside it are counted."""
    model, shape, value = need.model, need.shape, need.value_bytes
    trainable, looked_up = model.trainable, 0
    frozen = model.parameters if model.lora else 0
    if not model.lora:
        looked_up = shape.vocab * shape.hidden  # embeddings, which are used as they are
    # An embedding that is the head too has a copy to multiply with.
    copied = trainable - (0 if shape.tied else looked_up) if value == 2 else 0
    # The sums that wait for their partner, one per level of the tree.
    waiting = 4 * trainable * (need.steps.leaves.bit_length() - 1)
    in_pieces = 1.1 * need.leaf_tokens > need.steps.micro_batch_tokens
    added = 4 * trainable if in_pieces else 0  # by the micro-batches before
    work = need.work
    passing = passing_bytes(shape, work)
    own = 2 * copied + 4 * looked_up if value == 2 else 4 * trainable if not in_pieces else 0
    moments = (
        (added, kept_bytes(shape, work) + passing),
        (added + own, passing),
        (4 * trainable + (2 * copied if in_pieces else 0), 0),
    )
    gradients, activations = max(moments, key=sum)
    on_cpu = need.machine.device == "cpu"
    process = here.process_bytes + (_warm_bytes(need) if on_cpu else 0)
    weights = 4 * trainable + 2 * copied + value * frozen
    optimizer, snapshot = 8 * trainable, 12 * trainable
    training = weights + waiting + gradients + optimizer + activations + snapshot
    # Frozen weights are read as fp32; what rounding takes from them is kept until it is tried out.
    loading = frozen * (4 + 2 if value == 2 else 4)
    return MemoryPlan(
        process=process,
        weights=weights,
        gradients=waiting + gradients,
        optimizer=optimizer,
        activations=activations,
        peak=process + max(training, loading),
        snapshot=snapshot,
        free=here.machine.memory_free_bytes if on_cpu else 0,
    )


def _warm_bytes(need: Need) -> int:
    """What libraries take besides, once they are at work."""
    if need.value_bytes == 4:
        return _FIRST_USE
    products = _PRODUCTS["text"]
    if need.data.kind != "text":
        micro_batches = -(-need.steps.tokens // need.steps.micro_batch_tokens)
        products = _PRODUCTS["ragged"] * micro_batches * need.steps.num
    products *= _WITH_ADAPTERS if need.model.lora else 1
    return _FIRST_USE + _PRODUCT_BYTES * min(products, PRODUCTS_KEPT)


def fit_memory(need: Need, settings: Settings, here: Here, notes: Notes) -> tuple[Need, MemoryPlan]:
    """Smaller micro-batches, then gradient checkpointing, where memory would not do.

    Args:
        need: as it would be with memory enough.
        settings: micro_batch_tokens and gradient_checkpointing; what is asked for stays.
        here: how much is free.
        notes: takes the decisions and their reasons.

    Raises:
        MachineError: all of that is not enough.
    """
    chosen = _first_that_fits(need, settings, here)
    memory, free = foretell_memory(chosen, here), here.machine.memory_free_bytes
    if here.device == "cpu" and memory.peak > free:
        raise _does_not_fit(chosen, memory, here)
    micro, recompute = chosen.steps.micro_batch_tokens, chosen.machine.gradient_checkpointing
    if settings.micro_batch_tokens is None and micro != need.steps.micro_batch_tokens:
        notes.auto("micro_batch_tokens", micro, f"fits into the {units.size(free)} that are free")
    if settings.gradient_checkpointing is None:
        why = f"layers run twice, to fit into the {units.size(free)} that are free"
        enough = "there is memory enough without"
        notes.auto("gradient_checkpointing", recompute, why if recompute else enough)
    return chosen, memory


def _first_that_fits(need: Need, settings: Settings, here: Here) -> Need:
    """The fastest that fits with room for a wrong foretelling; else the one that takes least."""
    if here.device != "cpu":
        return need
    ways = _ways(need, settings)
    for way in ways:
        if foretell_memory(way, here).peak * (1 + WITHIN) <= here.machine.memory_free_bytes:
            return way
    return min(ways, key=lambda way: foretell_memory(way, here).peak)


def _ways(need: Need, settings: Settings) -> list[Need]:
    """What the plan may choose from, fastest first."""
    ways = [need]
    if settings.micro_batch_tokens is None:
        while ways[-1].steps.micro_batch_tokens // 2 >= SMALLEST:
            steps = ways[-1].steps
            half = replace(steps, micro_batch_tokens=steps.micro_batch_tokens // 2)
            ways.append(replace(need, steps=half))
    if settings.gradient_checkpointing is None:
        machine = replace(need.machine, gradient_checkpointing=True)
        ways += [replace(way, machine=machine) for way in ways]
    return ways


def _does_not_fit(need: Need, memory: MemoryPlan, here: Here) -> MachineError:
    free = here.machine.memory_free_bytes
    *single, together = _savings(need)

    def fits(way: "_Saving") -> bool:
        return foretell_memory(way.need, here).peak <= free

    ways = [way for way in single if fits(way)] or [way for way in [together] if fits(way)]
    return MachineError(
        "this run does not fit in memory",
        have=f"{units.size(free)} free",
        need=f"about {units.size(memory.peak)}: weights {units.size(memory.weights)}, gradients "
        f"{units.size(memory.gradients)}, optimizer {units.size(memory.optimizer)}, "
        f"activations {units.size(memory.activations)}, snapshot {units.size(memory.snapshot)}",
        remedies=tuple(Remedy(way.flags, way.gives) for way in ways)
        or (Remedy("a smaller model, or more memory", "no setting makes this one fit"),),
    )


@dataclass(frozen=True)
class _Saving:
    """A way to take less memory: what to type, and what comes of it."""

    flags: str
    gives: str
    need: Need


def _savings(need: Need) -> list[_Saving]:
    """What can still be typed for a plan, each by itself, and last all of it together."""
    ways: list[_Saving] = []
    together = need
    micro = min(need.steps.micro_batch_tokens // 4, 512)
    if micro >= 16:
        steps = replace(need.steps, micro_batch_tokens=micro)
        together = replace(together, steps=steps)
        flag = f"--micro-batch-tokens {micro}"
        ways.append(_Saving(flag, "smaller pieces, same result", replace(need, steps=steps)))
    if not need.machine.gradient_checkpointing:
        machine = replace(need.machine, gradient_checkpointing=True)
        together = replace(together, machine=machine)
        flag = "--gradient-checkpointing"
        ways.append(_Saving(flag, "less memory, more time", replace(need, machine=machine)))
    if need.model.source != "preset" and need.model.lora is None:
        lora = LoraPlan(Settings.lora_r, float(Settings.lora_alpha), 0.0, ("all-linear",))
        trainable = lora_parameters(need.shape, lora.r)
        model = replace(need.model, trainable=trainable, lora=lora)
        together = replace(together, model=model)
        gives = "train adapters, not all weights"
        ways.append(_Saving("--lora", gives, replace(need, model=model)))
    flags = " ".join(way.flags for way in ways)
    return [*ways, _Saving(flags, "all of it together", together)]
