"""What a plan costs in time, and what this machine contributes to it."""

from collections.abc import Callable
from dataclasses import dataclass

from headway.base.machine import Machine
from headway.model.sizes import (
    ModelShape,
    flops_per_token,
)
from headway.runs.measurements import bf16_gain, peak_key, speed_key
from headway.runs.plan import (
    DataPlan,
    MachinePlan,
    ModelPlan,
    StepsPlan,
    TimePlan,
    WorkSaved,
    computed_tokens,
)

# Compiling, with the trial of it, takes so long where nothing is in torch's cache yet, and makes a
# step so much shorter; a run must win twice of what is spent.
_COMPILING_S, _SHORTER = 20.0, 0.04
# Of the peak of its products, and where that was not measured yet, FLOP/s for each thread.
_OF_PEAK, _USUAL = 0.6, 100e9


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
    compiler: str = ""  # of C++, with what torch needs beside it

    def is_faster_in_bf16(self, threads: int) -> bool:
        """As measured here before; else as the processor lets one expect."""
        names = ("torch.bfloat16", "torch.float32")
        half, whole = (self.measured(peak_key(self.device, n, threads, self.torch)) for n in names)
        if half and whole:
            return half > bf16_gain(self.machine) * whole
        return self.device == "cuda" or (self.device == "cpu" and self.machine.fast_in_bf16)


def foretell_time(
    model: ModelPlan,
    shape: ModelShape,
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
    seconds = startup + tokens / speed if speed else None
    return TimePlan(speed, seconds, flops, _saved(shape, steps, data))


def compiling_pays(seconds: float) -> bool:
    """Whether a job that takes so long without is shorter with it, compiling included."""
    return seconds * _SHORTER > 2 * _COMPILING_S


def usual_seconds(time: TimePlan, machine: MachinePlan, here: Here) -> float:
    """How long a job takes: as it is foretold, or by what the machine's products can do."""
    if time.seconds:
        return time.seconds
    peak = peak_key(machine.device, f"torch.{machine.compute_dtype}", machine.threads, here.torch)
    measured = here.measured(peak)
    return time.flops / (_OF_PEAK * measured if measured else _USUAL * machine.threads)


def _saved(shape: ModelShape, steps: StepsPlan, data: DataPlan) -> WorkSaved:
    """By FLOPs: what is shared runs through the layers once; the head sees trained tokens alone."""
    layers, packed, full = (
        flops_per_token(shape, data.lengths.mean, share) for share in (0, 1 - data.untrained, 1)
    )
    shared = data.shared if steps.share_prefixes else 0.0
    return WorkSaved(data.padding_to_max, 1 - packed / full, shared * layers / packed)
