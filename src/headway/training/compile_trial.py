"""Compile where it pays: tried on rows of the job, kept where it is the same and faster.

The plan says whether a run is long enough for it. What is found holds for the whole run, so that
one that goes on computes with the same code.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from headway.base.errors import Finding
from headway.base.pulse import Phase
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.rows import Rows
from headway.data.order import RowOrder
from headway.model.forward import Forward
from headway.runs.plan import Plan
from headway.training.calibrate import longest_documents
from headway.training.phases import Phases

_TOKENS = 512  # that are tried: some tenths of a second for a model that a processor trains
_TURNS = 5
# How far gradients may be apart, of their length. In bf16 both are 0.04 from those in fp32, and
# 0.02 from each other.
_APART, _APART_ROUNDED = 1e-3, 0.06


def settle_compiled(
    plan: Plan,
    rows: Rows,
    order: RowOrder,
    forward: Forward,
    phase: Phases,
    *,
    again: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Plan, tuple[Finding, ...]]:
    """Compile what lies between matrix products, if the plan says so and it holds what it promises.

    Args:
        plan: as it was settled otherwise. Who asked for it gets it also where no time is won.
        rows: of the job.
        order: which of them come first.
        forward: computes as the plan says; is left compiled or not.
        phase: told of it.
        again: an earlier attempt tried it: what it found is done.
        clock: in seconds.

    Returns:
        The plan with what was found, and a line about it.
    """
    tried = plan.tried
    if not (tried and (tried.compiled if again else plan.machine.compiled)):
        return plan, ()
    numbers, budget = order.rows(1)[1], plan.steps.micro_batch_tokens
    micros = evaluation_micro_batches(rows, numbers, budget, plan.machine.device)
    some = longest_documents(micros[0], _TOKENS)
    with phase(Phase.COMPILING):
        try:
            plain = [] if again else _gradients(forward, some)
            with phase.pulse.waiting("the compiler"):
                forward.compile()
                compiled = _gradients(forward, some)
            against = None if again else _others(forward, plain, compiled)
            if not again and not against and plan.choice("torch_compile").origin == "auto":
                against = _slower(forward, some, clock)
        except Exception as error:
            against = Finding(
                "adjusted", "trains uncompiled: the compiler fails", have=_line(error)
            )
    forward.compile(against is None)
    if against:
        return plan, (against,)
    return replace(plan, tried=replace(tried, compiled=True)), ()


def _others(forward: Forward, plain: list[Tensor], compiled: list[Tensor]) -> Finding | None:
    """Whether what is compiled computes something else."""
    apart = _apart(compiled, plain)
    rounded = any(p.dtype == torch.bfloat16 for p in forward.model.parameters())
    most = _APART_ROUNDED if rounded else _APART
    if apart <= most:
        return None
    have = f"gradients {apart:.2g} of their length apart"
    return Finding(
        "adjusted", "trains uncompiled: gradients are others", have=have, need=f"at most {most:g}"
    )


def _slower(forward: Forward, micro: MicroTensors, clock: Callable[[], float]) -> Finding | None:
    """Whether no time is won by it: both ways in turns, the median of each."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(_TURNS):
        for way, turns in seconds.items():
            forward.compile(way)
            began_s = clock()
            _gradients(forward, micro)
            turns.append(clock() - began_s)
    gain = statistics.median(seconds[False]) / statistics.median(seconds[True])
    if gain <= 1:
        return Finding("adjusted", f"trains uncompiled: {gain:.2f} times as fast compiled")
    return None


def _gradients(forward: Forward, micro: MicroTensors) -> list[Tensor]:
    """Of what is trained, without any chance; nothing of it is left behind."""
    trained = [p for p in forward.weights.parameters() if p.requires_grad]
    was_training = forward.model.training
    forward.model.eval()
    try:
        forward.loss(micro, max(1, len(micro.targets_M))).backward()
        forward.collect_gradients()
        if micro.ids_N.is_cuda:
            torch.cuda.synchronize()
        return [p.grad for p in trained if p.grad is not None]
    finally:
        forward.model.train(was_training)
        forward.discard_gradients()
        for p in trained:
            p.grad = None


def _apart(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The length of the difference, of the length of theirs."""
    far, long = (
        sum(float(t.square().sum()) for t in ts)
        for ts in ((a - b for a, b in zip(ours, theirs, strict=True)), theirs)
    )
    return (far / max(long, torch.finfo(torch.float32).tiny)) ** 0.5


def _line(error: Exception) -> str:
    """The first line of what it says that is not empty."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
