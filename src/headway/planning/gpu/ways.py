"""Ways to train a model on a GPU, and what each needs: full weights, LoRA, LoRA on 4 bits.

The numbers are those of `planning/memory/estimate.py`, for a step of `ROWS` rows of one length.
"""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.machine import Machine
from headway.base.units import size
from headway.config.settings import Settings
from headway.data.batching.packing import num_leaves
from headway.data.survey.result import Lengths
from headway.model.sizes import context_of, counts_adapters, lora_parameters
from headway.planning.compute import Compute, KnownMachine
from headway.planning.gpu.model_facts import SizedModel
from headway.planning.memory.estimate import ESTIMATE_ERROR, MemoryInputs, estimate_memory
from headway.planning.memory.fit import with_leaves_that_fit
from headway.planning.step_layout import StepLayout
from headway.runs.plan import LoraPlan, ModelPlan

ROWS = 8  # of a step
TOKENS = 2048  # of a row, if nobody asks for another length and the model takes it
_SHORTEST, _LONGEST = 64, 1 << 17  # tokens of a row that are tried


@dataclass(frozen=True)
class Way:
    """One way to train, and what it needs.

    Attributes:
        name: what is trained.
        optim: the optimizer.
        flags: what asks for it.
        peak_bytes: with rows of the plan's length.
        recomputed_bytes: the same with activation checkpointing.
        longest: tokens of the longest row that fits, with checkpointing if need be; 0: none.
    """

    name: str
    optim: str
    flags: tuple[str, ...]
    peak_bytes: int
    recomputed_bytes: int
    longest: int


@dataclass(frozen=True)
class GpuPlan:
    """What fits on a GPU.

    Attributes:
        model: its name.
        parameters: of the model.
        gpu_bytes: memory of the GPU.
        tokens: of a row.
        ways: that were looked at, in the order in which they are recommended.
        chosen: the first of them that fits.
        recomputes: it fits with activation checkpointing only.
        sentence: what fits, in words.
        command: the line to type.
        adapters_estimated: the adapters of a model of this kind are counted as a Llama's.
    """

    model: str
    parameters: int
    gpu_bytes: int
    tokens: int
    ways: tuple[Way, ...]
    chosen: Way
    recomputes: bool
    sentence: str
    command: str
    adapters_estimated: bool = False


def plan_gpu(
    facts: SizedModel, settings: Settings, gpu_bytes: int, sources: Sequence[str] = ()
) -> GpuPlan:
    """Find what fits.

    Args:
        facts: of the model.
        settings: max_length, and those of the adapters.
        gpu_bytes: memory of the GPU.
        sources: of the data, for the line to type; they are not read.

    Raises:
        MachineError: nothing does.
    """
    context = context_of(facts.config) or _LONGEST
    tokens = min(settings.max_length or TOKENS, context)
    ways = tuple(_ways(facts, settings, gpu_bytes, tokens, context))

    chosen = next((way for way in ways if way.longest >= tokens), None)
    if chosen is None:  # shorter rows
        longest = max(way.longest for way in ways)
        if longest < _SHORTEST or settings.max_length:
            raise _nothing_fits(facts, gpu_bytes, tokens, ways)
        return plan_gpu(facts, replace(settings, max_length=longest), gpu_bytes, sources)
    recomputes = not _fits(chosen.peak_bytes, gpu_bytes)
    flags = [*chosen.flags, *(["--gradient-checkpointing"] if recomputes else [])]
    how = f"--preset {facts.name}" if facts.is_new else f"--model {shlex.quote(facts.name)}"
    data = " ".join(map(shlex.quote, sources)) or "DATA"
    size_of_step = f"--max-length {tokens} --batch-size {settings.batch_size or ROWS}"
    return GpuPlan(
        model=facts.name,
        parameters=facts.parameters,
        gpu_bytes=gpu_bytes,
        tokens=tokens,
        ways=ways,
        chosen=chosen,
        recomputes=recomputes,
        sentence=_sentence(chosen, ways, tokens, recomputes=recomputes),
        command=" ".join(["headway train", data, how, size_of_step, *flags]),
        adapters_estimated=not facts.is_new and not counts_adapters(facts.config),
    )


def _sentence(chosen: Way, ways: tuple[Way, ...], tokens: int, *, recomputes: bool) -> str:
    verb = "fit" if chosen.name == _FULL else "fits"
    text = f"{chosen.name} {verb} at {tokens:,} tokens{', recomputed' if recomputes else ''}"
    full = ways[0]
    if chosen.name == full.name or full.name != _FULL:
        return text
    return f"{text}; {full.name} need {size(min(full.peak_bytes, full.recomputed_bytes))}"


def _ways(
    facts: SizedModel, settings: Settings, gpu_bytes: int, tokens: int, context: int
) -> Iterator[Way]:
    machine, rows = _machine(gpu_bytes), settings.batch_size or ROWS
    for kind in _kinds(facts, settings):
        inputs = _inputs(facts, settings, kind)
        asked = _with_rows(inputs, rows, tokens)
        plain = with_leaves_that_fit(asked, machine)
        peak = estimate_memory(plain, machine).peak
        recomputed = replace(plain if _fits(peak, gpu_bytes) else asked, checkpointing=True)
        yield Way(
            kind.name,
            kind.optim,
            (*kind.flags, *([] if kind.optim == "adamw" else [f"--optim {kind.optim}"])),
            peak,
            _peak(recomputed, machine),
            _longest(inputs, machine, rows, context),
        )


@dataclass(frozen=True)
class _Kind:
    name: str
    optim: str = "adamw"
    flags: tuple[str, ...] = ()
    dtype: Literal["float32", "bfloat16"] = "bfloat16"


_FULL = "full weights"
_IN_4BIT = _Kind("4-bit LoRA", flags=("--load-in-4bit",))
_KINDS = (
    _Kind(_FULL),
    _Kind(_FULL, "adamw_8bit"),
    _Kind("LoRA", flags=("--lora",)),
    _IN_4BIT,
    _Kind("full in fp32", flags=("--no-bf16",), dtype="float32"),
)


def _kinds(facts: SizedModel, settings: Settings) -> Iterator[_Kind]:
    """What to look at: everything, or what is asked for."""
    for kind in _KINDS:
        is_lora = kind.name.endswith("LoRA")
        if is_lora and facts.is_new:
            continue
        if settings.load_in_4bit and kind is not _IN_4BIT:
            continue
        if settings.lora and not is_lora:
            continue
        if not settings.given("optim"):
            yield kind
        elif kind.optim == "adamw":
            yield replace(kind, optim=settings.optim)


def _longest(inputs: MemoryInputs, machine: KnownMachine, rows: int, context: int) -> int:
    """Tokens of the longest row that fits, recomputing layers: a power of two, or the context."""
    lengths = [length for k in range(6, 18) if (length := 1 << k) < context]
    for length in reversed([*lengths, min(context, _LONGEST)]):
        recomputed = replace(_with_rows(inputs, rows, length), checkpointing=True)
        if _fits(_peak(recomputed, machine), machine.free_bytes):
            return length
    return 0


def _fits(num_bytes: int, gpu_bytes: int) -> bool:
    """Even if the estimate is low."""
    return num_bytes * (1 + ESTIMATE_ERROR) <= gpu_bytes


def _peak(inputs: MemoryInputs, machine: KnownMachine) -> int:
    """With the leaves that a plan would choose there."""
    return estimate_memory(with_leaves_that_fit(inputs, machine), machine).peak


def _with_rows(inputs: MemoryInputs, rows: int, tokens: int) -> MemoryInputs:
    """Rows of one length; one row at a time, which always can be asked for."""
    leaves = num_leaves(rows * tokens, rows)
    return replace(
        inputs,
        lengths=Lengths(tokens, tokens, tokens, tokens),
        step_tokens=rows * tokens,
        layout=StepLayout(leaves, tokens),
    )


def _inputs(facts: SizedModel, settings: Settings, kind: _Kind) -> MemoryInputs:
    r, lora = settings.lora_r, None
    if kind.name.endswith("LoRA"):
        lora = LoraPlan(r, float(settings.lora_alpha), 0.0, ("all-linear",))
    model = ModelPlan(
        source="preset" if facts.is_new else "folder",
        name=facts.name,
        path="",
        config=dict(facts.config),
        vocab_size=facts.shape.vocab,
        context=context_of(facts.config),
        weights_sha256="",
        parameters=facts.parameters,
        trainable=lora_parameters(facts.shape, r) if lora else facts.parameters,
        trust_remote_code=False,
        lora=lora,
        parent=None,
        load_in_4bit=kind.name == _IN_4BIT.name,
        stored_bytes=facts.stored_bytes,
    )
    return MemoryInputs(
        model=model,
        optim=kind.optim,
        shape=facts.shape,
        compute=Compute("cuda", 1, kind.dtype),
        kind="conversations",
        lengths=Lengths(0, 0, 0, 0),
        untrained=0.0,
        step_tokens=0,
        num_steps=1,
        layout=StepLayout(1, _SHORTEST),
        checkpointing=False,
    )


def _machine(gpu_bytes: int) -> KnownMachine:
    return KnownMachine(
        machine=Machine(1, 0, 0, "", ""),
        device="cuda",
        why="",
        process_bytes=0,
        measured=lambda _: None,
        torch="",
        device_free_bytes=gpu_bytes,
    )


def _nothing_fits(
    facts: SizedModel, gpu_bytes: int, tokens: int, ways: tuple[Way, ...]
) -> MachineError:
    least = min(ways, key=lambda way: way.recomputed_bytes)
    need = round(least.recomputed_bytes * (1 + ESTIMATE_ERROR))
    longest = max(way.longest for way in ways)
    shorter = (Remedy(f"--max-length {longest}", "the longest rows that fit"),) if longest else ()
    return MachineError(
        f"{facts.name} does not fit on a GPU with {size(gpu_bytes)} at {tokens:,} tokens",
        cause=Cause.OUT_OF_MEMORY,
        have=size(gpu_bytes),
        need=f"{size(need)} for {least.name}, with what the estimate may be off",
        remedies=(*shorter, Remedy(f"--gpu {-(-need // 10**9)}GB", "a larger GPU")),
    )
