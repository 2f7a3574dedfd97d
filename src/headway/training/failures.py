"""Training failures: unexpected errors as refusals, and recovery from out-of-memory."""

import gc
import traceback
from dataclasses import replace
from pathlib import Path

import torch

from headway.base.errors import (
    BrokenContract,
    Cause,
    Finding,
    MachineError,
    OurBug,
    Refusal,
    Remedy,
)
from headway.base.files import write_lightly
from headway.base.host.machine_errors import machine_refusal
from headway.data.batching.batches import MicroTensors
from headway.model.load import is_out_of_memory
from headway.runs.plan import Plan
from headway.runs.settled import Settled

TRACEBACK = "traceback.txt"
SMALLEST = 16  # tokens of a micro-batch
_AGAIN = Remedy("the same command again", "resumes from the newest checkpoint")


def as_refusal(
    error: BaseException, doing: str, plan: Plan, settled: Settled, folder: Path
) -> Refusal:
    """Any error as a refusal; a bug leaves its traceback in the run's folder.

    Args:
        error: a refusal is returned as it is.
        doing: what was under way, such as "training".
        plan: of the run.
        settled: of the run.
        folder: of the run.
    """
    if isinstance(error, Refusal):
        return error
    first_line = next(iter(str(error).splitlines()), "")
    if refusal := machine_refusal(error):
        return refusal
    if is_out_of_memory(error):
        return _out_of_memory(doing, first_line, plan, settled)
    kept = folder / TRACEBACK
    write_lightly(kept, "".join(traceback.format_exception(error)).encode())
    return OurBug(
        f"{doing} failed: {type(error).__name__}: {first_line}",
        cause=Cause.BUG,
        have=f"the traceback in {kept}",
        need="a bug report: this is our fault",
        remedies=(_AGAIN,),
    )


def ended_early(num_steps: int, plan: Plan) -> BrokenContract:
    """The batches ran out before the plan did.

    Args:
        num_steps: finished steps.
        plan: of the run.
    """
    return BrokenContract(
        f"the rows ran out after step {num_steps}",
        cause=Cause.ENDED_EARLY,
        have=f"{num_steps} of {plan.steps.num} steps, and no request to stop",
        need="every planned step",
        remedies=(Remedy("the same command again", "resumes from the last save"),),
    )


def halve_micro_batch(
    plan: Plan, settled: Settled, micro: MicroTensors | None, error: Exception
) -> tuple[Settled, Finding]:
    """Halve the micro-batch after one that ran out of memory.

    A step's result is the same but for rounding: its gradient is a sum that is cut differently.
    `--exact` allows no such change, and a single row cannot be cut.

    Args:
        plan: of the run.
        settled: of the run.
        micro: the micro-batch that failed; None if its step cannot be computed again.
        error: what was raised.

    Raises:
        Exception: `error`, if it is not an out-of-memory or a smaller micro-batch cannot help.
    """
    tokens = min(settled.micro_batch_tokens, len(micro.ids_N)) if micro else 0
    is_single_row = micro is None or len(micro.rows_R) < 2
    is_exact = plan.choice("exact").value
    if not is_out_of_memory(error) or is_single_row or tokens // 2 < SMALLEST or is_exact:
        raise error
    finding = Finding(
        "adjusted",
        f"out of memory: micro-batches of {tokens // 2:,} tokens from here on",
        have=f"micro-batches of {tokens:,} tokens",
        cause=Cause.OUT_OF_MEMORY,
    )
    gc.collect()  # what the failed pass left in cycles
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(settled, micro_batch_tokens=tokens // 2), finding


def _out_of_memory(doing: str, have: str, plan: Plan, settled: Settled) -> MachineError:
    device, tokens = plan.machine.device, settled.micro_batch_tokens
    half = min(tokens, plan.steps.tokens) // 2
    remedies = [_AGAIN] if device == "cpu" else []
    if not settled.gradient_checkpointing:
        remedies.insert(0, Remedy("--gradient-checkpointing", "added to the command: less memory"))
    if half >= SMALLEST:
        remedies.insert(
            0, Remedy(f"--micro-batch-tokens {half}", "added to the command: smaller micro-batches")
        )
    return MachineError(
        f"out of memory while {doing}",
        cause=Cause.OUT_OF_MEMORY,
        have=have or f"no memory left on {device}",
        need=f"micro-batches of fewer than {tokens} tokens",
        remedies=tuple(remedies),
    )
