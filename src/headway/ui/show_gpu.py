"""GPU display: the ways to train a model, what each needs, and the line to type."""

from typing import TYPE_CHECKING

from headway.base.units import count, short_count, size
from headway.ui.text_layout import cut, fold, one_line, table

if TYPE_CHECKING:
    from headway.planning.gpu.ways import GpuPlan, Way


def gpu_lines(plan: "GpuPlan", width: int) -> list[str]:
    """What fits on a GPU.

    Args:
        plan: what was found.
        width: columns, 40 to 120; only the command may be wider.
    """
    head = ("trained", "optim", f"at {count(plan.tokens)}", "recomputed", "longest")
    rows = [head, *(_row(way) for way in plan.ways)]
    mark = plan.ways.index(plan.chosen) + 1
    lines = [
        ("> " if number == mark else "  ") + line
        for number, line in enumerate(table(rows, right=(2, 3, 4)))
    ]
    title = f"{one_line(plan.model)}, {short_count(plan.parameters)} parameters"
    notes = (
        f"Estimated peak memory with rows of {count(plan.tokens)} tokens, one at a time; what fits "
        "leaves 15% for an estimate that is off. Recomputed: layers run again in the backward pass "
        "(--gradient-checkpointing), a third more work. Longest: tokens of the longest row that "
        "fits, recomputed. Not yet run on a GPU."
    )
    if plan.adapters_estimated:
        notes += " Adapters are counted as a Llama's, an estimate for this kind of model."
    return [
        *fold(f"{title}, on a GPU with {size(plan.gpu_bytes)}", width),
        "",
        *(cut(line, width) for line in lines),
        "",
        *fold(plan.sentence, width),
        f"  {plan.command}",
        "",
        *fold(notes, width),
    ]


def _row(way: "Way") -> tuple[str, ...]:
    longest = count(way.longest) if way.longest else "none"
    return way.name, way.optim, size(way.peak_bytes), size(way.recomputed_bytes), longest
