"""What nobody foresaw, in four parts: memory that ran out, or a bug with its traceback."""

import traceback
from pathlib import Path

from headway.base.errors import BrokenContract, MachineError, OurBug, Refusal, Remedy
from headway.base.files import write_lightly
from headway.runs.plan import Plan
from headway.training.out_of_memory import SMALLEST, is_memory

TRACEBACK = "traceback.txt"
_AGAIN = Remedy("the same command again", "goes on from the newest checkpoint")


def mishap(error: BaseException, doing: str, plan: Plan, folder: Path) -> Refusal:
    """Any error as a refusal; a bug leaves its traceback in the run's folder.

    Args:
        error: what was raised; a refusal stays what it is.
        doing: what went on, "training".
        plan: of the run.
        folder: of the run.
    """
    if isinstance(error, Refusal):
        return error
    first = next(iter(str(error).splitlines()), "")
    if is_memory(error):
        return _out_of_memory(doing, first, plan)
    kept = folder / TRACEBACK
    write_lightly(kept, "".join(traceback.format_exception(error)).encode())
    return OurBug(
        f"{doing} failed: {type(error).__name__}: {first}",
        have=f"the traceback in {kept}",
        need="a bug report: this is ours",
        remedies=(_AGAIN,),
    )


def ended_early(done: int, plan: Plan) -> BrokenContract:
    """The batches came to an end before the plan did."""
    return BrokenContract(
        f"the rows ended after step {done}, and nobody asked to stop",
        have=f"{done} of {plan.steps.num} steps",
        need="every planned step",
        remedies=(Remedy("the same command again", "goes on from the last save"),),
    )


def _out_of_memory(doing: str, have: str, plan: Plan) -> MachineError:
    device, half = plan.machine.device, min(plan.steps.micro_batch_tokens, plan.steps.tokens) // 2
    remedies = [_AGAIN] if device == "cpu" else []
    if not plan.machine.gradient_checkpointing:
        more = Remedy("--gradient-checkpointing", "added to the same command: less memory")
        remedies.insert(0, more)
    if half >= SMALLEST:
        smaller = f"--micro-batch-tokens {half}"
        remedies.insert(0, Remedy(smaller, "added to the same command: goes on in smaller pieces"))
    return MachineError(
        f"memory ran out while {doing}",
        have=have or f"no more memory on {device}",
        need=f"less at once than micro-batches of {plan.steps.micro_batch_tokens} tokens take",
        remedies=tuple(remedies),
    )
