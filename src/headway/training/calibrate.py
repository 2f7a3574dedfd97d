"""The few measurements a plan needs: how fast, how large, and whether packing is sound here."""

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor

from headway.base.documents import DocumentGroup, document_lengths
from headway.base.errors import Finding
from headway.base.machine import measured, remember, this_machine
from headway.base.pulse import Phase
from headway.data.batching.batches import MicroTensors
from headway.model.forward import Forward
from headway.runs.measurements import bf16_gain, peak_key, speed_key
from headway.runs.plan import Plan, Tried

_PEAK_S = 0.1
_LEAST_TURNS = 5
_TURN = 512  # rows and columns of a product that takes about a millisecond
_ROUNDING = 0.02  # of a loss, by computing in bf16
_ROUNDING_TOKENS = 512  # that it is computed from: a tenth of a second, and a mean of many
# Nats that losses in fp32 may differ by: computed from the same tokens, and by the same products.
_SAME_TOKENS, _SAME_PRODUCTS = 1e-5, 1e-4
_SAVE_S, _SAVE_BYTES_PER_S = 0.05, 200e6  # a careful guess, until a save has been measured


def settle(
    plan: Plan,
    forward: Forward,
    micro: MicroTensors,
    alike: tuple[MicroTensors, MicroTensors] | None = None,
) -> tuple[Plan, tuple[Finding, ...] | None]:
    """Make a model run as its plan says, after trying out once what no plan can know.

    Args:
        plan: as it was made, or as an earlier attempt settled it.
        forward: computing in fp32; computes as the settled plan says afterwards.
        micro: some documents of the job's own data.
        alike: some that begin alike, each whole and then sharing that; None where none do.

    Returns:
        The settled plan, and what became other than planned; None: it was settled before.
    """
    if plan.tried:
        forward.use_custom_logits(plan.tried.own_logits)
        forward.run_separately(plan.tried.separately)
        forward.compute_in(getattr(torch, plan.machine.compute_dtype))
        forward.release_exact_weights()
        return plan, None
    findings: list[Finding] = []
    tried = try_packing(forward, micro)
    if tried.separately:
        what = "layers of this model see across documents: each runs by itself, more slowly"
        findings.append(Finding("adjusted", what))
    elif plan.steps.share_prefixes and not (alike and _may_share(forward, *alike)):
        tried = replace(tried, not_shared=True)
        what = "rows share no beginnings: " + (
            "this model computes them anew for each row" if alike else "no first steps have any"
        )
        findings.append(Finding("adjusted", what))
    machine = plan.machine
    if plan.choice("bf16").origin == "auto" and machine.device == "cpu":
        dtype = "bfloat16" if bf16_is_faster(machine.threads) else "float32"
        if dtype != machine.compute_dtype:
            findings.append(Finding("adjusted", f"computes in {dtype}, which is faster here"))
        machine = replace(machine, compute_dtype=dtype)
    if machine.compute_dtype != "float32":
        shows = _try_rounding(forward, micro, machine.compute_dtype)
        if shows:
            findings.append(shows)
            machine = replace(machine, compute_dtype="float32")
        forward.release_exact_weights()
    return replace(plan, machine=machine, tried=tried), tuple(findings)


def _try_rounding(forward: Forward, micro: MicroTensors, dtype: str) -> Finding | None:
    """Compute in a smaller number format; in fp32 again if the loss then is another one."""
    some = longest_documents(micro, _ROUNDING_TOKENS)
    exact = _mean_loss(forward, some)
    forward.compute_in(getattr(torch, dtype))
    rounded = _mean_loss(forward, some)
    if abs(rounded - exact) <= _ROUNDING * exact:
        return None
    forward.compute_in(torch.float32)
    have = f"loss {rounded:.4f} in {dtype}, {exact:.4f} in float32"
    return Finding("adjusted", "computes in float32: rounding shows", have=have)


def _may_share(forward: Forward, whole: MicroTensors, shared: MicroTensors) -> bool:
    """Whether rows that share what they begin with have the losses they have by themselves.

    As while training, for a layer that draws by chance draws something else for each row.
    """
    was_training = forward.model.training
    forward.model.train()
    with torch.no_grad(), torch.random.fork_rng(devices=_devices(whole)):
        # Targets stand in another order in each; sorted losses are no further apart than their own.
        ours, theirs = (forward.losses(micro).sort().values for micro in (shared, whole))
    forward.model.train(was_training)
    return _close(ours, theirs, _SAME_PRODUCTS)


def _devices(micro: MicroTensors) -> list[torch.device]:
    return [micro.ids_N.device] if micro.ids_N.is_cuda else []


def _mean_loss(forward: Forward, micro: MicroTensors) -> float:
    model, was_training = forward.model, forward.model.training
    model.eval()
    with torch.no_grad():
        loss = float(forward.losses(micro).mean())
    model.train(was_training)
    return loss


def bf16_is_faster(threads: int) -> bool:
    """Whether this processor multiplies bf16 much faster than fp32.

    Small products in turns, the best of each: whoever else is busy here slows both down.
    """
    best = _rates([torch.ones(_TURN, _TURN, dtype=d) for d in (torch.bfloat16, torch.float32)])
    for dtype, rate in best.items():
        _keep_best(peak_key("cpu", str(dtype), threads, str(torch.__version__)), rate)
    return best[torch.bfloat16] > bf16_gain(this_machine()) * best[torch.float32]


def _rates(squares: Sequence[Tensor]) -> dict[torch.dtype, float]:
    """FLOP/s of each one's product with itself: the best of a tenth of a second, and of some turns.

    The very first product of a kind is not measured: it reads and compiles code.
    """
    for a in squares:
        _seconds(a)
    best = {a.dtype: 0.0 for a in squares}
    turns, began_s = 0, time.perf_counter()
    while turns < _LEAST_TURNS or time.perf_counter() - began_s < _PEAK_S:
        turns += 1
        for a in squares:
            best[a.dtype] = max(best[a.dtype], 2 * len(a) ** 3 / _seconds(a))
    return best


def _seconds(square: Tensor) -> float:
    start_s = time.perf_counter()
    square @ square  # pyright: ignore[reportUnusedExpression]
    if square.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start_s


def _keep_best(what: str, rate: float) -> None:
    if rate > (measured(what) or 0.0):
        remember(what, rate)


def try_packing(forward: Forward, micro: MicroTensors, *, tolerance: float = 2e-3) -> Tried:
    """Whether packed documents have the losses they have alone, on this very model, in fp32.

    Alone they run through the model's own attention and head, and torch's cross-entropy. A layer
    that carries state along the row (linear attention, convolutions) differs whatever the attention
    function does: such a model runs its documents separately. So little may come of that with
    fresh weights that no loss tells it; hence a second look, whether a document's losses change at
    all with the words of the one before it. Whether its logits are a product with the head's
    weights is seen apart from that, and more closely: a cap on them hardly shows in small ones.

    Args:
        forward: a model with our attention in place, computing in fp32; left as what was found.
        micro: some documents of the job's own data.
        tolerance: nats; rounding stays far below, a leak far above.
    """
    two = longest_documents(micro)
    model, was_training = forward.model, forward.model.training
    first = two.documents[0].length
    other = two.ids_N.clone()
    other[:first] = torch.where(other[:first] > 0, other[:first] - 1, 1)
    model.eval()
    with torch.no_grad():
        product = forward.losses(two)
        could = not forward.has_custom_logits
        forward.use_custom_logits()
        packed = forward.losses(two)
        forward.use_custom_logits(not (could and _close(product, packed, _SAME_PRODUCTS)))
        forward.run_separately()
        alone = forward.losses(two)
        forward.run_separately(False)
        changed = forward.losses(replace(two, ids_N=other))
    model.train(was_training)
    behind = two.trained_at_M >= first
    untouched = _close(packed[behind], changed[behind], _SAME_TOKENS)
    sound = _close(packed, alone, tolerance) and untouched
    forward.run_separately(not sound)
    return Tried(not sound, forward.has_custom_logits)


def _close(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    return not len(ours) or float((ours - theirs).abs().max()) <= tolerance


def longest_documents(micro: MicroTensors, num_tokens: int = 0) -> MicroTensors:
    """The longest documents of a micro-batch, as a micro-batch; a single one in two halves.

    Long ones, because in a document of a token or two every attention gives the same.

    Args:
        micro: documents by length, the longest last.
        num_tokens: of them all at most; two are taken whatever they have.
    """
    lengths = document_lengths(micro.documents)
    num = sum(total <= num_tokens for total in accumulate(reversed(lengths)))
    lengths = lengths[-max(num, 2) :]
    if len(lengths) == 1 and lengths[0] > 1:
        lengths = [lengths[0] // 2, lengths[0] - lengths[0] // 2]
    begin = len(micro.ids_N) - sum(lengths)
    kept = micro.trained_at_M >= begin
    return MicroTensors(
        rows_R=micro.rows_R,
        ids_N=micro.ids_N[begin:],
        positions_N=torch.cat([torch.arange(t, device=micro.ids_N.device) for t in lengths]),
        trained_at_M=micro.trained_at_M[kept] - begin,
        targets_M=micro.targets_M[kept],
        documents=tuple(DocumentGroup(length) for length in lengths),
    )


def peak_memory_bytes(device: str) -> int:
    """The most memory this process has held so far: of the device, or of the host for cpu."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def peak_flops(device: str, dtype: torch.dtype, threads: int) -> float:
    """FLOP/s of a large matrix product on this machine: the best that any run has seen.

    Measured each time, for a tenth of a second: a first measurement may have met a busy machine.
    """
    what = peak_key(device, str(dtype), threads, str(torch.__version__))
    square = torch.ones(1024, 1024, device=device, dtype=dtype)
    best = max(measured(what) or 0.0, _rates([square])[dtype])
    _keep_best(what, best)
    return best


def remember_speed(plan: Plan, step_s: Sequence[float], first_step_s: float | None) -> None:
    """Keep a run's speed for the next plan of this shape on this machine.

    Args:
        plan: of the run.
        step_s: seconds of each step of this attempt; the first one is not typical.
        first_step_s: from the start of the attempt to the end of its first step.
    """
    if len(step_s) < 5:
        return
    machine = plan.machine
    key = speed_key(
        plan.model,
        plan.steps,
        plan.data,
        machine.device,
        machine.compute_dtype,
        machine.threads,
        str(torch.__version__),
    )
    remember(key, plan.steps.tokens / typical(step_s[1:]))
    if first_step_s and not plan.machine.compiled:  # compiling is no part of every start
        remember(f"startup|{torch.__version__}", first_step_s - step_s[0])


def remember_process() -> None:
    """Keep how much memory the interpreter and its libraries take, for plans' peak memory."""
    remember(f"process|{torch.__version__}", peak_memory_bytes("cpu"))


def typical(values: Sequence[float]) -> float:
    """The median."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2


def foretell_rest(
    plan: Plan, steps_left: int, step_s: float, phase_seconds: Mapping[str, float]
) -> float:
    """Seconds from now to the receipt.

    Args:
        plan: what is still to be done.
        steps_left: of the job.
        step_s: of one of them.
        phase_seconds: what the phases so far took: the end loads, probes and evaluates again.
    """
    evaluating = phase_seconds.get(Phase.EVALUATING, 0.0)
    every = plan.looks.eval_steps
    evaluations = 1 + (steps_left // every if every else 0)
    num_saves = 1 + steps_left // plan.saves.every_steps
    return (
        steps_left * step_s
        + phase_seconds.get(Phase.LOADING_MODEL, 0.0)
        + phase_seconds.get(Phase.PROBING, 0.0)
        + evaluations * evaluating
        + num_saves * foretell_save(plan)
    )


def foretell_save(plan: Plan) -> float:
    """Seconds that a save takes, before one has been measured."""
    return _SAVE_S + plan.saves.bytes_each / _SAVE_BYTES_PER_S
