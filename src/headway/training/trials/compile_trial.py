"""Compile trial: gradients and speed with whole layers compiled, or norms and loss alone.

The plan says whether a run is long enough to pay for it. What is found holds for the whole run.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from headway.base.errors import Finding, Refusal, Remedy
from headway.base.pulse import Phase
from headway.data.batching.batches import MicroTensors, evaluation_micro_batches
from headway.data.batching.rows import Rows
from headway.data.order import RowOrder
from headway.model.forward import Forward
from headway.model.kernels.compile_level import CompileLevel
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training.phases import Phases
from headway.training.trials.dry_run import compute_gradients, nothing_trained
from headway.training.trials.probes import longest_documents

_TOKENS = 512  # to try with: tenths of a second for a model that a CPU trains
_ROUNDS = 5
# How much gradients may differ, as a share of their norm. In bf16, compiled and uncompiled ones are
# 0.04 from those in fp32 and 0.02 from each other.
_MOST_APART, _MOST_APART_BF16 = 1e-3, 0.06
_WITHOUT = {
    CompileLevel.OPERATIONS: "training without compile",
    CompileLevel.LAYERS: "training without compiled layers",
}
_OFF = Remedy("--no-torch-compile", "trains uncompiled from the start and tries nothing")


def try_compile(
    plan: Plan,
    settled: Settled,
    rows: Rows,
    order: RowOrder,
    forward: Forward,
    phase: Phases,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[CompileLevel, tuple[Finding, ...]]:
    """Compile as planned, or less if that fails, changes gradients or is no faster.

    If a person asked for it, whether it is faster than nothing does not matter.

    Args:
        plan: of the run.
        settled: as settled so far.
        rows: of the job.
        order: of these rows.
        forward: computes as settled; is left compiled as returned.
        phase: current phase.
        clock: seconds.

    Returns:
        How much is compiled, and why not as planned.
    """
    findings, works = list[Finding](), list[CompileLevel]()
    micro = _micro_batch(plan, settled, rows, order)
    with phase(Phase.COMPILING):
        try:
            trial = _Trial(forward, micro, phase, clock)
        except Refusal:
            raise
        except Exception as error:  # out of memory: steps have smaller micro-batches to go on with
            return CompileLevel.NOTHING, (_not_tried(error),)
        for level in _levels(settled.compiled):
            problem = trial.problem_of(level)
            findings += [problem] if problem else []
            works += [] if problem else [level]
        if plan.choice("torch_compile").origin == "auto":
            works.append(CompileLevel.NOTHING)
        fastest, slower = trial.fastest(works or [CompileLevel.NOTHING])
    forward.compile(fastest)
    return fastest, (*findings, *slower)


def compile_as_settled(
    plan: Plan, settled: Settled, rows: Rows, order: RowOrder, forward: Forward, phase: Phases
) -> Finding | None:
    """Compile if an earlier attempt did; why that failed, None if it did not."""
    level = settled.compiled
    if not level.compiles:
        return None
    micro = _micro_batch(plan, settled, rows, order)
    try:
        with phase(Phase.COMPILING), phase.pulse.waiting("the compiler"), nothing_trained(forward):
            forward.compile(level)
            compute_gradients(forward, micro)
    except Exception as error:
        forward.compile(CompileLevel.NOTHING)
        return _compiler_failed(CompileLevel.OPERATIONS, error)
    return None


def _levels(planned: CompileLevel) -> tuple[CompileLevel, ...]:
    """What to try, the most first."""
    each = CompileLevel.LAYERS, CompileLevel.OPERATIONS
    return each[each.index(planned) :]


def _micro_batch(plan: Plan, settled: Settled, rows: Rows, order: RowOrder) -> MicroTensors:
    numbers, budget = order.rows(1)[1], settled.micro_batch_tokens
    micros = evaluation_micro_batches(rows, numbers, budget, plan.machine.device)
    return longest_documents(micros[0], _TOKENS)


class _Trial:
    """Gradients of one micro-batch, compiled and not.

    In training mode, since that is what will run: layers with dropout are other code in each mode.
    Where training draws at random, gradients are compared in eval mode instead.
    """

    def __init__(
        self, forward: Forward, micro: MicroTensors, phase: Phases, clock: Callable[[], float]
    ) -> None:
        self._forward, self._micro, self._phase, self._clock = forward, micro, phase, clock
        self._draws = _draws_at_random(forward, micro)
        self._plain = self._gradients(trains=not self._draws)

    def problem_of(self, level: CompileLevel) -> Finding | None:
        """Why this level cannot be trained with, if it cannot."""
        if level is CompileLevel.LAYERS and self._forward.runs_separately:
            return Finding(
                "adjusted",
                "training without compiled layers: documents run one at a time",
                have="attention of the model's own",
                need="documents that are packed",
                remedies=(_OFF,),
            )
        try:
            with self._phase.pulse.waiting("the compiler"):
                self._forward.compile(level)
                compiled = self._gradients(trains=not self._draws)
                if self._draws:
                    self._gradients(trains=True)  # compiled now, not in step 1
        except Exception as error:
            return _compiler_failed(level, error)
        return self._difference(level, compiled)

    def fastest(self, levels: Sequence[CompileLevel]) -> tuple[CompileLevel, tuple[Finding, ...]]:
        """The fastest level, and why not those before it: rounds by turns, the median of each.

        Args:
            levels: that work, the most first.
        """
        if len(levels) == 1:
            return levels[0], ()
        seconds: dict[CompileLevel, list[float]] = {level: [] for level in levels}
        for _ in range(_ROUNDS):
            for level, rounds in seconds.items():
                self._forward.compile(level)
                start_s = self._clock()
                self._gradients(trains=not self._draws)
                rounds.append(self._clock() - start_s)
        median = {level: statistics.median(rounds) for level, rounds in seconds.items()}
        fastest = min(reversed(levels), key=lambda level: median[level])  # of equal ones, the least
        left_out = levels[: levels.index(fastest)]
        return fastest, tuple(_slower(level, fastest, median) for level in left_out)

    def _gradients(self, *, trains: bool) -> list[Tensor]:
        forward = self._forward
        with nothing_trained(forward):
            forward.model.train(trains)
            compute_gradients(forward, self._micro)
            if self._micro.ids_N.is_cuda:
                torch.cuda.synchronize()
            trained = (p for p in forward.weights.parameters() if p.requires_grad)
            return [p.grad for p in trained if p.grad is not None]

    def _difference(self, level: CompileLevel, compiled: list[Tensor]) -> Finding | None:
        """A finding if compiled gradients differ."""
        apart = _relative_distance(compiled, self._plain)
        is_bf16 = any(p.dtype == torch.bfloat16 for p in self._forward.model.parameters())
        most = _MOST_APART_BF16 if is_bf16 else _MOST_APART
        if apart <= most:
            return None
        return Finding(
            "adjusted",
            f"{_WITHOUT[level]}: gradients differ from the uncompiled ones",
            have=f"gradients that differ by {apart:.2g} of their norm",
            need=f"at most {most:g}",
            remedies=(_OFF,),
        )


def _draws_at_random(forward: Forward, micro: MicroTensors) -> bool:
    """Whether training this model draws random numbers, as dropout does."""
    with nothing_trained(forward):
        before = _draws_so_far(micro)
        compute_gradients(forward, micro)
        return any(not torch.equal(a, b) for a, b in zip(before, _draws_so_far(micro), strict=True))


def _draws_so_far(micro: MicroTensors) -> list[Tensor]:
    device = micro.ids_N.device
    on_device = [torch.cuda.get_rng_state(device)] if micro.ids_N.is_cuda else []
    return [torch.get_rng_state(), *on_device]


def _compiler_failed(level: CompileLevel, error: Exception) -> Finding:
    return Finding(
        "adjusted",
        f"{_WITHOUT[level]}: the compiler failed",
        have=_first_line(error),
        need="a C++ compiler, on a GPU also Triton, and a model that becomes one graph per layer"
        if level is CompileLevel.LAYERS
        else "a C++ compiler, on a GPU also Triton",
        remedies=(Remedy("headway doctor", "shows the compiler"), _OFF),
    )


def _not_tried(error: Exception) -> Finding:
    return Finding(
        "adjusted",
        "training without compile: it could not be tried",
        have=_first_line(error),
        need="gradients of some documents, uncompiled, to compare with",
        remedies=(_OFF,),
    )


def _slower(
    level: CompileLevel, fastest: CompileLevel, median: dict[CompileLevel, float]
) -> Finding:
    gain = median[fastest] / median[level]
    if level is CompileLevel.OPERATIONS:
        how = f"compiled steps are {gain:.2f} times as fast"
    else:
        than = "norms and loss alone" if fastest.compiles else "uncompiled steps"
        how = f"{gain:.2f} times as fast as {than}"
    return Finding(
        "adjusted",
        f"{_WITHOUT[level]}: {how}",
        have=f"{median[level]:.3g} s for {_TOKENS} tokens, {median[fastest]:.3g} s without",
        need="a gain",
        remedies=(_OFF,),
    )


def _relative_distance(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """The norm of the difference, relative to the norm of `theirs`."""
    squared_distance, squared_norm = (
        sum(float(t.square().sum()) for t in ts)
        for ts in ((a - b for a, b in zip(ours, theirs, strict=True)), theirs)
    )
    return (squared_distance / max(squared_norm, torch.finfo(torch.float32).tiny)) ** 0.5


def _first_line(error: Exception) -> str:
    """The first non-empty line of an error's text."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
