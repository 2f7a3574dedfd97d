"""Fit: smaller micro-batches, fewer leaves and recomputed layers where memory is small."""

from dataclasses import dataclass, replace

from headway.base import units
from headway.base.errors import Cause, Finding, MachineError, Remedy
from headway.config.settings import Settings
from headway.model.sizes import lora_parameters
from headway.planning.compute import KnownMachine
from headway.planning.decision import Decision, auto
from headway.planning.memory.estimate import ESTIMATE_ERROR, MemoryInputs, estimate_memory
from headway.runs.plan import LoraPlan, MemoryPlan

RECOMPUTED = 1 / 3  # of a step's work: the layers' forward pass once more
MIN_MICRO_BATCH_TOKENS = 64  # that a plan chooses


@dataclass(frozen=True)
class MemoryFit:
    """What a plan does to fit in memory."""

    leaves: int
    micro_batch_tokens: int
    checkpointing: bool


def fit_memory(
    inputs: MemoryInputs, settings: Settings, facts: KnownMachine
) -> Decision[MemoryFit]:
    """Smaller micro-batches, fewer leaves and activation checkpointing, if memory is short.

    Args:
        inputs: as they would be with enough memory.
        settings: micro_batch_tokens and gradient_checkpointing; what is given stays.
        facts: how much memory is free.

    Raises:
        MachineError: all of that is not enough.
    """
    chosen = _first_that_fits(inputs, settings, facts)
    memory, free = estimate_memory(chosen, facts), facts.free_bytes
    if free and memory.peak > free:
        raise _does_not_fit(chosen, memory, facts)
    if 0 < facts.machine.memory_free_bytes < memory.host:
        raise _copy_does_not_fit(chosen, memory, facts)
    micro = chosen.layout.micro_batch_tokens
    choices = []
    if settings.micro_batch_tokens is None:
        is_smaller = micro != inputs.layout.micro_batch_tokens
        fits = f"fits in the {units.size(free)} of free memory"
        reason = fits if is_smaller else "more at once would only take memory"
        choices.append(auto("micro_batch_tokens", micro, reason))
    if settings.gradient_checkpointing is None:
        recomputes = (
            f"recomputes layers to fit in the {units.size(free)} of free memory: "
            f"{units.share(RECOMPUTED)} more work"
        )
        reason = "there is enough memory without it" if free else "this device's memory is unknown"
        reason = recomputes if chosen.checkpointing else reason
        choices.append(auto("gradient_checkpointing", chosen.checkpointing, reason))
    leaves = chosen.layout.leaves
    fit = MemoryFit(leaves, micro, chosen.checkpointing)
    return Decision(fit, tuple(choices), _say_fewer_leaves(inputs, leaves, free))


def _say_fewer_leaves(inputs: MemoryInputs, leaves: int, free: int) -> tuple[Finding, ...]:
    """The remark that a step's gradient is added up from fewer parts than usual."""
    usual = inputs.layout.leaves
    if leaves == usual:
        return ()
    saved = 4 * inputs.model.trainable * (usual.bit_length() - leaves.bit_length())
    parts = units.plural(leaves, "leaf", "leaves")
    what = f"a step's gradient is summed from {parts} instead of {usual}, to fit in memory"
    have = f"{units.size(free)} free; {usual} leaves need {units.size(saved)} more for their sums"
    need = f"{units.plural(leaves, 'worker')} at most can share a step"
    return (Finding("ok", what, have, need),)


def with_leaves_that_fit(inputs: MemoryInputs, facts: KnownMachine) -> MemoryInputs:
    """The most leaves that fit even if the estimate is low; else the fewest."""
    options = [_with(inputs, leaves=leaves) for leaves in _possible_leaves(inputs)]
    return next((one for one in options if _surely_fits(one, facts)), options[-1])


def _first_that_fits(inputs: MemoryInputs, settings: Settings, facts: KnownMachine) -> MemoryInputs:
    """The fastest that fits even if the estimate is low; else the one that needs least memory."""
    if not facts.free_bytes:
        return inputs
    options = _options(inputs, settings)
    return next(
        (one for one in options if _surely_fits(one, facts)),
        min(options, key=lambda option: estimate_memory(option, facts).peak),
    )


def _surely_fits(inputs: MemoryInputs, facts: KnownMachine) -> bool:
    return estimate_memory(inputs, facts).peak * (1 + ESTIMATE_ERROR) <= facts.free_bytes


def _options(inputs: MemoryInputs, settings: Settings) -> list[MemoryInputs]:
    """What the plan may choose from, best first.

    Fewer leaves cost no time, but change the sum's rounding and let fewer workers share a step. A
    GPU has one worker, and gives them up first; on processors they come last.
    """
    micros = [inputs.layout.micro_batch_tokens]
    while settings.micro_batch_tokens is None and micros[-1] // 2 >= MIN_MICRO_BATCH_TOKENS:
        micros.append(micros[-1] // 2)
    recomputes = [inputs.checkpointing]
    if settings.gradient_checkpointing is None:
        recomputes.append(True)
    every_leaves = _possible_leaves(inputs)
    if inputs.compute.device == "cpu":
        each = [(m, r, leaves) for leaves in every_leaves for r in recomputes for m in micros]
    else:
        each = [(m, r, leaves) for r in recomputes for m in micros for leaves in every_leaves]
    return [_with(inputs, micro=m, checkpointing=r, leaves=leaves) for m, r, leaves in each]


def _possible_leaves(inputs: MemoryInputs) -> list[int]:
    """As planned, or fewer: a power of two, at least one for each worker."""
    num, layout = inputs.compute.workers.workers, inputs.layout
    leaves = [layout.leaves]
    # Shards add up without a tree of whole gradients.
    while not inputs.compute.is_sharded and leaves[-1] > 1 and leaves[-1] // 2 >= num:
        leaves.append(leaves[-1] // 2)
    return leaves


def _with(
    inputs: MemoryInputs,
    *,
    micro: int | None = None,
    checkpointing: bool | None = None,
    leaves: int | None = None,
) -> MemoryInputs:
    """The inputs with another micro-batch, with or without checkpointing, or with other leaves."""
    given = inputs.layout
    layout = replace(
        given,
        micro_batch_tokens=micro or given.micro_batch_tokens,
        leaves=leaves or given.leaves,
    )
    recomputes = inputs.checkpointing if checkpointing is None else checkpointing
    return replace(inputs, layout=layout, checkpointing=recomputes)


# ---- what to try -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _MemorySaving:
    """A way to need less memory: what to type, what it does, and the inputs it gives."""

    flags: str
    gives: str
    inputs: MemoryInputs


def _does_not_fit(inputs: MemoryInputs, memory: MemoryPlan, facts: KnownMachine) -> MachineError:
    free = facts.free_bytes
    *single, together = _memory_savings(inputs)

    def fits(saving: _MemorySaving) -> bool:
        return estimate_memory(saving.inputs, facts).peak <= free

    savings = [one for one in single if fits(one)] or [one for one in [together] if fits(one)]
    return MachineError(
        "this run does not fit in memory",
        cause=Cause.OUT_OF_MEMORY,
        have=f"{units.size(free)} free",
        need=f"about {units.size(memory.peak)}: weights {units.size(memory.weights)}, gradients "
        f"{units.size(memory.gradients)}, optimizer {units.size(memory.optimizer)}, "
        f"activations {units.size(memory.activations)}, snapshot {units.size(memory.snapshot)}",
        remedies=tuple(Remedy(saving.flags, saving.gives) for saving in savings)
        or (Remedy("a smaller model, or more memory", "no setting makes this one fit"),),
    )


def _copy_does_not_fit(
    inputs: MemoryInputs, memory: MemoryPlan, facts: KnownMachine
) -> MachineError:
    free = facts.machine.memory_free_bytes
    savings = [one for one in _memory_savings(inputs) if one.inputs.model.lora]
    fitting = [one for one in savings if estimate_memory(one.inputs, facts).host <= free]
    return MachineError(
        "a GPU's checkpoints pass through the host's memory, and do not fit",
        cause=Cause.OUT_OF_MEMORY,
        have=f"{units.size(free)} free, beside the GPU's own memory",
        need=f"about {units.size(memory.host)}: the process, and a copy of weights and moments",
        remedies=tuple(Remedy(one.flags, one.gives) for one in fitting[:1])
        or (Remedy("a smaller model, or more memory", "no setting makes this one fit"),),
    )


def _memory_savings(inputs: MemoryInputs) -> list[_MemorySaving]:
    """What can still be typed, each separately, and last all of it together."""
    savings: list[_MemorySaving] = []
    together = inputs
    micro = min(inputs.layout.micro_batch_tokens // 4, 512)
    if micro >= 16:
        together = _with(together, micro=micro)
        flag = f"--micro-batch-tokens {micro}"
        gives = "less memory, same result"
        savings.append(_MemorySaving(flag, gives, _with(inputs, micro=micro)))
    if not inputs.checkpointing:
        together = _with(together, checkpointing=True)
        flag, gives = "--gradient-checkpointing", "less memory, more time"
        savings.append(_MemorySaving(flag, gives, _with(inputs, checkpointing=True)))
    if inputs.model.source != "preset" and inputs.model.lora is None:
        lora = LoraPlan(Settings.lora_r, float(Settings.lora_alpha), 0.0, ("all-linear",))
        trainable = lora_parameters(inputs.shape, lora.r)
        model = replace(inputs.model, trainable=trainable, lora=lora)
        together = replace(together, model=model)
        gives = "trains adapters instead of all weights"
        savings.append(_MemorySaving("--lora", gives, replace(inputs, model=model)))
    flags = " ".join(saving.flags for saving in savings)
    return [*savings, _MemorySaving(flags, "all of these together", together)]
