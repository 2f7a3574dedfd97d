"""Trial sequence: packing, prefix sharing, number format, compiling.

The root tries alone, and the other workers compute as it settled; only the largest micro-batch is
tried by all at once. What they find out holds for the whole run: a resume reads it from
settled.json and tries nothing.
"""

from dataclasses import replace
from typing import Literal

import torch

from headway.base.documents import document_lengths
from headway.base.errors import Cause, Finding, Remedy
from headway.base.foreign.boundary import Boundary, describe
from headway.base.units import plural
from headway.data.batching.batches import MicroTensors
from headway.data.batching.rows import Rows
from headway.data.order import RowOrder
from headway.model.attention import has_windows
from headway.model.forward import Forward
from headway.model.kernels.varlen import takes_windows
from headway.model.load import is_out_of_memory, read_by_kernels
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.setup import versions
from headway.training.trials.compile_trial import compile_as_settled, try_compile
from headway.training.trials.earlier_trial import earlier_trial
from headway.training.trials.probes import (
    PackingTrial,
    computes_shared_prefixes,
    longest_documents,
    mean_loss,
    try_packing,
)
from headway.training.trials.rows_to_try import first_rows
from headway.training.trials.speed import bf16_is_faster

ROUNDING = 0.02  # of a loss, that computing in bf16 may change
ROUNDING_TOKENS = 512  # that the loss is computed from: a tenth of a second, a mean of many


def settle(
    plan: Plan, settled: Settled, rows: Rows, order: RowOrder, forward: Forward, phase: Phases
) -> tuple[Settled, tuple[Finding, ...]]:
    """Set a model up as settled, after trying what has not been tried but for the micro-batch.

    Args:
        plan: of the run.
        settled: the planned values, or those of an earlier attempt.
        rows: of the job.
        order: of these rows.
        forward: computes in fp32; computes as settled afterwards.
        phase: current phase.

    Returns:
        The settled values, and what differs from the plan.
    """
    if settled.has_tried:
        finding = compute_as_settled(plan, settled, rows, order, forward, phase)
        return settled, (finding,) if finding else ()
    settled, findings = settle_forward(plan, settled, forward, *first_rows(rows, order, plan))
    findings += _without_kernel(plan, forward) + _without_adapters(plan, forward)
    if settled.compiled.compiles:
        compiled, why = try_compile(plan, settled, rows, order, forward, phase)
        settled, findings = replace(settled, compiled=compiled), findings + why
    return settled, findings


def compute_as_settled(
    plan: Plan, settled: Settled, rows: Rows, order: RowOrder, forward: Forward, phase: Phases
) -> Finding | None:
    """Set a model up as an earlier attempt or the root settled.

    Args:
        plan: of the run.
        settled: by then.
        rows: of the job.
        order: of these rows.
        forward: computes in fp32; computes as settled afterwards.
        phase: current phase.

    Returns:
        Why it is not compiled though settled so; None if it is as settled.
    """
    forward.use_custom_logits(settled.custom_logits)
    forward.run_separately(settled.run_separately)
    forward.compute_in(getattr(torch, settled.compute_dtype))
    forward.release_exact_weights()
    return compile_as_settled(plan, settled, rows, order, forward, phase)


def settle_forward(
    plan: Plan,
    settled: Settled,
    forward: Forward,
    micro: MicroTensors,
    prefixed: tuple[MicroTensors, MicroTensors] | None = None,
) -> tuple[Settled, tuple[Finding, ...]]:
    """Try packing, shared prefixes and the number format.

    Args:
        plan: of the run.
        settled: the planned values.
        forward: computes in fp32; computes as settled afterwards.
        micro: some documents of the job's own data.
        prefixed: rows with a common prefix, computed in full and with the prefix shared; None if
            there are none.

    Raises:
        UsageError: the model cannot compute a loss, not even of one document.
    """
    tokens = min(document_lengths(longest_documents(micro).documents))
    earlier = earlier_trial(plan, tokens, versions())
    settled, packed = settle_packing(plan, settled, forward, micro, prefixed, earlier)
    settled = replace(settled, tried_tokens=earlier.tried_tokens if earlier else tokens)
    findings = list(packed)
    dtype = settled.compute_dtype
    if plan.choice("bf16").origin == "auto" and plan.machine.device == "cpu":
        dtype = "bfloat16" if bf16_is_faster(plan.machine.threads) else "float32"
        if dtype != settled.compute_dtype:
            findings.append(Finding("adjusted", f"computes in {dtype}, which is faster here"))
    if dtype != "float32":
        finding = _try_rounding(forward, micro, dtype)
        if finding:
            findings.append(finding)
            dtype = "float32"
        forward.release_exact_weights()
    else:
        forward.compute_in(torch.float32)
    return replace(settled, compute_dtype=dtype), tuple(findings)


def settle_packing(
    plan: Plan,
    settled: Settled,
    forward: Forward,
    micro: MicroTensors,
    prefixed: tuple[MicroTensors, MicroTensors] | None = None,
    earlier: Settled | None = None,
) -> tuple[Settled, tuple[Finding, ...]]:
    """Try packing and shared prefixes; see `settle_forward`.

    With `earlier` values, whose trial of packing holds here, packing is not tried again.
    """
    findings: list[Finding] = []
    if earlier:
        packing = PackingTrial(earlier.run_separately, earlier.custom_logits)
        forward.use_custom_logits(packing.has_custom_logits)
        forward.run_separately(packing.leaks)
    else:
        with _not_computable(plan)():
            packing = try_packing(forward, micro)
    settled = replace(
        settled, run_separately=packing.leaks, custom_logits=packing.has_custom_logits
    )
    if packing.leaks:
        what = "documents run one at a time: " + (
            "this model cannot compute several in a row"
            if packing.why
            else "this model's layers leak state between them"
        )
        findings.append(Finding("adjusted", what, have=packing.why))
        settled = replace(settled, share_prefixes=False)
    elif settled.share_prefixes and not (prefixed and computes_shared_prefixes(forward, *prefixed)):
        what = "prefixes are not shared: " + (
            "this model computes them differently" if prefixed else "the first steps have none"
        )
        findings.append(Finding("adjusted", what))
        settled = replace(settled, share_prefixes=False)
    return settled, tuple(findings)


def _without_kernel(plan: Plan, forward: Forward) -> tuple[Finding, ...]:
    """Whether a GPU's attention kernel is not there for layers with a window."""
    if plan.machine.device != "cuda" or not has_windows(forward.model) or takes_windows():
        return ()
    what = "layers with a sliding window are computed without FlashAttention, which is slower"
    have, need = f"torch {torch.__version__}", "torch 2.11, whose kernel takes a window"
    return (Finding("adjusted", what, have=have, need=need),)


def _without_adapters(plan: Plan, forward: Forward) -> tuple[Finding, ...]:
    """Whether there are linear layers that adapters on all of them leave out, besides the head."""
    if plan.model.lora is None or plan.model.lora.target_modules != ("all-linear",):
        return ()
    left = read_by_kernels(forward.weights)
    if not left:
        return ()
    name = left[0].rpartition(".")[2]
    what = f"no adapters on {plural(len(left), 'layer')} named {name}"
    have = "lora.target_modules all-linear, and a fused kernel that reads these weights itself"
    return (Finding("adjusted", what, have=have, need="layers that are called as modules"),)


def _not_computable(plan: Plan) -> Boundary:
    return Boundary(
        f"the model {plan.model.name} cannot compute a loss",
        cause=Cause.MODEL_UNSUPPORTED,
        need="a model that transformers runs on input_ids and position_ids",
        remedies=(Remedy("headway doctor", "shows the installed version of transformers"),),
        passes=is_out_of_memory,
    )


def _try_rounding(
    forward: Forward, micro: MicroTensors, dtype: Literal["float32", "bfloat16"]
) -> Finding | None:
    """Compute in a smaller number format, or in fp32 again if the loss changes."""
    some = longest_documents(micro, ROUNDING_TOKENS)
    exact = mean_loss(forward, some)
    what = f"computes in float32: {dtype} changes the loss"
    try:
        forward.compute_in(getattr(torch, dtype))
        rounded = mean_loss(forward, some)
        if abs(rounded - exact) <= ROUNDING * exact:
            return None
        have = f"loss {rounded:.4f} in {dtype}, {exact:.4f} in float32"
    except Exception as error:  # the model is third-party code
        if is_out_of_memory(error):
            raise
        what, have = f"computes in float32: this model fails in {dtype}", describe(error)
    forward.compute_in(torch.float32)
    return Finding("adjusted", what, have=have)
