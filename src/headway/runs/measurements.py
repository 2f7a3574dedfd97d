"""Measurement keys: the names under which this machine's measured speeds are stored."""

from headway.base.machine import Machine
from headway.model.sizes import shape_of
from headway.runs.plan import DataPlan, ModelPlan, StepsPlan

LEAST_STEPS = 5  # of a run that remembers its speed

# A measurement on a busy machine must not overrule what the processor says it can do.
_GAIN, _GAIN_WITH_PRODUCTS = 1.6, 1.0


def bf16_gain(machine: Machine) -> float:
    """How many times as fast as fp32 a bf16 matrix product must be for bf16 to pay."""
    return _GAIN_WITH_PRODUCTS if machine.fast_in_bf16 else _GAIN


def peak_key(device: str, dtype: str, threads: int, torch: str) -> str:
    """Key of the best FLOP/s of a matrix product."""
    return f"peak|{device}|{dtype}|{threads}|torch {torch}"


def speed_key(
    model: ModelPlan,
    steps: StepsPlan,
    data: DataPlan,
    device: str,
    dtype: str,
    threads: int,
    torch: str,
    workers: int = 1,
) -> str:
    """Key of the tokens per second of a run: everything its speed depends on."""
    shape = shape_of(model.config)
    lora = model.lora.r if model.lora else 0
    length = round(data.lengths.mean) if data.kind != "text" else data.max_length
    return (
        f"speed|{shape}|{lora}|{length}|{steps.leaves}|{steps.tokens}|{device}"
        f"|{dtype}|{threads}|{torch}"
        + (f"|{data.shared:.2f} shared" if steps.share_prefixes else "")
        + (f"|{workers} workers" if workers > 1 else "")
    )


def startup_key(torch: str) -> str:
    """Key of the seconds from the start of an attempt to its first step, without compiling."""
    return f"startup|{torch}"


def process_key(torch: str) -> str:
    """Key of the bytes of memory that a process with torch takes before it loads a model."""
    return f"process|{torch}"
