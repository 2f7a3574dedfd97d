"""What a plan costs: memory, time, and the padding it avoids."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from headway.base import units
from headway.base.errors import MachineError, Remedy
from headway.base.machine import Machine
from headway.base.settings import Settings
from headway.model.sizes import (
    Shape,
    activation_bytes,
    flops_per_token,
    lora_parameters,
    shape_of,
)
from headway.trainer.plan import (
    DataPlan,
    MachinePlan,
    MemoryPlan,
    ModelPlan,
    StepsPlan,
    TimePlan,
    computed_tokens,
)

BF16_GAIN = 1.3  # bf16 pays when its products are so many times as fast


@dataclass(frozen=True)
class Here:
    """What this machine contributes to a plan."""

    machine: Machine
    device: str
    why: str  # that device
    process_bytes: int  # of interpreter and libraries before any weight
    measured: Callable[[str], float | None]  # tokens per second, seconds, ... by name
    torch: str  # version
    allocator: str = ""  # of memory, that the trainer is started with

    def is_faster_in_bf16(self, threads: int) -> bool:
        """As measured here before; else as the processor lets one expect."""
        names = ("torch.bfloat16", "torch.float32")
        half, whole = (self.measured(peak_key(self.device, n, threads, self.torch)) for n in names)
        if half and whole:
            return half > BF16_GAIN * whole
        return self.device == "cuda" or (self.device == "cpu" and self.machine.fast_in_bf16)


def foretell_memory(
    model: ModelPlan,
    shape: Shape,
    steps: StepsPlan,
    data: DataPlan,
    machine: MachinePlan,
    here: Here,
) -> MemoryPlan:
    """Peak memory of the trainer, part by part: everything is fp32, the tree's sums counted."""
    weights = 4 * model.parameters
    optimizer = 8 * model.trainable
    snapshot = 12 * model.trainable  # on the host, whatever the device
    # The leaf being computed and the sums that wait for their partner, one per level of the tree.
    gradients = 4 * model.trainable * steps.leaves.bit_length()
    tokens = min(max(steps.micro_batch_tokens, data.max_length), steps.tokens)
    trained = round(tokens * (1 - data.untrained))
    activations = activation_bytes(shape, tokens, trained, 4)
    if machine.gradient_checkpointing:
        activations //= max(2, round(shape.layers**0.5))
    process = here.process_bytes
    return MemoryPlan(
        process=process,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=activations,
        peak=process + weights + gradients + optimizer + activations + snapshot,
        snapshot=snapshot,
    )


def check_memory(
    model: ModelPlan,
    shape: Shape,
    steps: StepsPlan,
    data: DataPlan,
    machine: MachinePlan,
    here: Here,
) -> MemoryPlan:
    """Foretell the memory and refuse what does not fit.

    Raises:
        MachineError: the foretold peak is more than there is free.
    """
    memory = foretell_memory(model, shape, steps, data, machine, here)
    free = here.machine.memory_free_bytes
    if here.device != "cpu" or memory.peak <= free:
        return memory
    *single, together = _savings(model, shape, steps, machine)

    def fits(way: _Saving) -> bool:
        return foretell_memory(way.model, shape, way.steps, data, way.machine, here).peak <= free

    ways = [way for way in single if fits(way)] or [way for way in [together] if fits(way)]
    raise MachineError(
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
    """A way to take less memory: what to type, and what of the plan it changes."""

    flags: str
    gives: str
    model: ModelPlan
    steps: StepsPlan
    machine: MachinePlan


def _savings(
    model: ModelPlan, shape: Shape, steps: StepsPlan, machine: MachinePlan
) -> list[_Saving]:
    """What can still be done for a plan, each by itself, and last all of it together."""
    ways: list[_Saving] = []
    pieces, checkpointed, adapted = steps, machine, model
    micro = steps.micro_batch_tokens // 4
    if micro >= 16:
        pieces = replace(steps, micro_batch_tokens=micro)
        flag = f"--micro-batch-tokens {micro}"
        ways.append(_Saving(flag, "smaller pieces, same result", model, pieces, machine))
    if not machine.gradient_checkpointing:
        checkpointed = replace(machine, gradient_checkpointing=True)
        flag = "--gradient-checkpointing"
        ways.append(_Saving(flag, "less memory, more time", model, steps, checkpointed))
    if model.source != "preset" and model.lora is None:
        adapted = replace(model, trainable=lora_parameters(shape, Settings.lora_r))
        ways.append(_Saving("--lora", "train adapters, not all weights", adapted, steps, machine))
    flags = " ".join(way.flags for way in ways)
    return [*ways, _Saving(flags, "all of it together", adapted, pieces, checkpointed)]


def peak_key(device: str, dtype: str, threads: int, torch: str) -> str:
    """The name under which the best FLOP/s of a matrix product is kept."""
    return f"peak|{device}|{dtype}|{threads}|torch {torch}"


def speed_key(
    model: ModelPlan, steps: StepsPlan, data: DataPlan, machine: MachinePlan, torch: str
) -> str:
    """What the tokens per second of a run depend on, for `machine.measured`."""
    shape = shape_of(model.config)
    lora = model.lora.r if model.lora else 0
    length = round(data.lengths.mean) if data.kind != "text" else data.max_length
    return (
        f"speed|{shape}|{lora}|{length}|{steps.leaves}|{steps.tokens}|{machine.device}"
        f"|{machine.compute_dtype}|{machine.threads}|{torch}"
        + (f"|{data.shared:.2f} shared" if steps.share_prefixes else "")
    )


def foretell_time(
    model: ModelPlan,
    shape: Shape,
    steps: StepsPlan,
    data: DataPlan,
    machine: MachinePlan,
    here: Here,
) -> TimePlan:
    """From this machine's last run of this shape; unknown where there was none."""
    tokens, run = steps.tokens * steps.num, computed_tokens(steps, data) * steps.num
    trained = tokens * (1 - data.untrained)
    flops = run * flops_per_token(shape, data.lengths.mean, trained / run)
    speed = here.measured(speed_key(model, steps, data, machine, here.torch))
    startup = here.measured(f"startup|{here.torch}") or 5.0
    return TimePlan(speed, startup + tokens / speed if speed else None, flops)
