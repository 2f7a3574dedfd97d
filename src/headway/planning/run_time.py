"""Estimated run time of a plan, and whether compiling pays off."""

import math

from headway.base import units
from headway.base.errors import Cause, Finding, Remedy
from headway.config.settings import Settings
from headway.model.sizes import ModelShape, flops_per_token, shape_of
from headway.planning.compute import Compute, KnownMachine
from headway.planning.decision import Decision, auto
from headway.planning.learning import optimizer_bytes
from headway.runs.measurements import peak_key, speed_key, startup_key
from headway.runs.plan import (
    DataPlan,
    EvaluationPlan,
    ModelPlan,
    SavesPlan,
    StepsPlan,
    TimePlan,
    WorkSaved,
    computed_tokens,
)

# Measured: compiling and its trial with an empty cache, in seconds, and the share of a step it
# saves. A run must win back twice the cost.
_COMPILE_S, _COMPILE_SAVES = 20.0, 0.04
# Guessed, until a GPU has been measured: the same for whole layers. The trial decides what is kept.
_GUESSED_GPU_COMPILE_S, _GUESSED_GPU_COMPILE_SAVES = 60.0, 0.10
_GUESSED_GPU_FLOPS = 50e12  # FLOP/s that training reaches
# Share of the measured peak FLOP/s that training reaches; without a measurement, FLOP/s per thread.
_SHARE_OF_PEAK, _FLOPS_PER_THREAD = 0.6, 100e9
_STARTUP_S = 5.0  # until it is measured
_CLOSE_S = 1.5  # for the receipt and the end of the process, after the last save
_FORWARD_SHARE = 1 / 3  # of a training step's work: no backward pass, which is twice the forward


def estimate_time(
    model: ModelPlan,
    steps: StepsPlan,
    data: DataPlan,
    compute: Compute,
    facts: KnownMachine,
) -> TimePlan:
    """From the speed of this machine's last run of this shape; unknown if there was none."""
    shape, tokens = shape_of(model.config), steps.tokens * steps.num
    num_computed = computed_tokens(steps, data) * steps.num
    trained = tokens * (1 - data.untrained)
    flops = num_computed * flops_per_token(shape, data.lengths.mean, trained / num_computed)
    key = speed_key(
        model,
        steps,
        data,
        compute.device,
        compute.dtype,
        compute.threads,
        facts.torch,
        compute.workers.workers,
    )
    speed = facts.measured(key)
    startup = facts.measured(startup_key(facts.torch)) or _STARTUP_S
    seconds = startup + tokens / speed if speed else None
    return TimePlan(speed, seconds, flops, _work_saved(shape, steps, data))


def advise_evaluation(
    evaluation: EvaluationPlan, data: DataPlan, steps: StepsPlan
) -> Decision[None]:
    """A warning if there is nothing to evaluate, or evaluating takes longer than training."""
    if evaluation.eval_steps and not data.rows.held_out:
        return Decision(None, findings=(_nothing_to_evaluate(evaluation, data),))
    row_tokens = steps.tokens / max(steps.batch_size, 1)
    once = data.rows.held_out * row_tokens * _FORWARD_SHARE
    between = (steps.num - 1) // evaluation.eval_steps if evaluation.eval_steps else 0
    training = steps.tokens * steps.num
    times = once * (2 + between) / training
    if times <= 1:
        return Decision(None)
    remedies: list[Remedy] = []
    most = int(training / 2 / once) - 2  # together, half the time of the steps
    if between and most >= 1:
        every = -(-steps.num // most)
        remedies.append(Remedy(f"--eval-steps {every}", f"{most} times instead of {between}"))
    rows = max(1, int(data.rows.held_out / times / 2))
    remedies.append(Remedy(f"--val-size {rows}", f"instead of {data.rows.held_out:,} rows"))
    finding = Finding(
        "warning",
        f"evaluating will take about {times:.1f} times as long as training",
        have=f"{2 + between} evaluations of {data.rows.held_out:,} rows, {steps.num:,} steps",
        need="fewer evaluations or fewer held-out rows",
        remedies=tuple(remedies),
    )
    return Decision(None, findings=(finding,))


def _nothing_to_evaluate(evaluation: EvaluationPlan, data: DataPlan) -> Finding:
    hold_out = Remedy("--val-size 0.05", "holds out 5% of the rows")
    leave_out = Remedy("leave out --eval-steps", "nothing to warn of")
    return Finding(
        "warning",
        "nothing will be evaluated: no rows are held out",
        have=f"eval_steps {evaluation.eval_steps:,}, val_size 0",
        need="held-out rows, whose loss is measured before step 1 and every eval_steps",
        remedies=(hold_out, leave_out) if data.rows.accepted > 2 else (leave_out,),
        cause=Cause.NOTHING_TO_EVALUATE,
    )


def decide_compile(
    settings: Settings, time: TimePlan, compute: Compute, facts: KnownMachine
) -> Decision[bool]:
    """Whether to try compiling: it costs seconds and makes every step a little shorter."""
    if settings.torch_compile is not None:
        return Decision(settings.torch_compile)
    seconds = min(likely_seconds(time, compute, facts), settings.max_time or math.inf)
    compiles = False
    if compute.device == "mps":
        reason = "not measured on this device"
    elif compute.is_sharded:
        reason = "a model in shards is not compiled"
    elif settings.test or not compile_pays_off(seconds, compute.device):
        reason = "the run is too short for compiling to pay off"
    elif not facts.compiler:
        reason = "it would pay off, but there is no C++ compiler here (headway doctor)"
    else:
        compiles = True
        guessed = ", by a guess for GPUs" if compute.device == "cuda" else ""
        reason = f"pays off in about {units.seconds(seconds)}{guessed}; tried before step 1"
    return Decision(compiles, (auto("torch_compile", compiles, reason),))


def compile_pays_off(seconds: float, device: str = "cpu") -> bool:
    """Whether a run that takes this long uncompiled is shorter compiled, compiling included."""
    costs_s, saves = _COMPILE_S, _COMPILE_SAVES
    if device == "cuda":
        costs_s, saves = _GUESSED_GPU_COMPILE_S, _GUESSED_GPU_COMPILE_SAVES
    return seconds * saves > 2 * costs_s


def likely_seconds(time: TimePlan, compute: Compute, facts: KnownMachine) -> float:
    """The estimated run time; without one, by the FLOP/s this machine can do."""
    if time.seconds:
        return time.seconds
    key = peak_key(compute.device, f"torch.{compute.dtype}", compute.threads, facts.torch)
    peak = facts.measured(key)
    unmeasured = _FLOPS_PER_THREAD * compute.threads
    if compute.device == "cuda":
        unmeasured = _GUESSED_GPU_FLOPS
    speed = _SHARE_OF_PEAK * peak if peak else unmeasured
    return time.flops / (speed * compute.workers.workers)


def _work_saved(shape: ModelShape, steps: StepsPlan, data: DataPlan) -> WorkSaved:
    """In FLOPs: layers run shared tokens once, and the head runs trained tokens only."""
    layers, packed, full = (
        flops_per_token(shape, data.lengths.mean, share) for share in (0, 1 - data.untrained, 1)
    )
    shared = data.shared if steps.share_prefixes else 0.0
    return WorkSaved(data.padding_to_max, 1 - packed / full, shared * layers / packed)


def decide_saves(settings: Settings, model: ModelPlan, num_steps: int) -> Decision[SavesPlan]:
    """When checkpoints are written, and whether there is time for one when asked to stop."""
    every, choices = settings.save_steps, ()
    if every is None:
        every = max(num_steps // 4, 50)
        reason = "every quarter of the run, at least 50 steps, and at the end"
        choices = (auto("save_steps", every, reason),)
    keep_every = settings.keep_every
    saved_steps = set(range(every, num_steps + 1, every)) | {num_steps}
    if keep_every:
        saved_steps |= set(range(keep_every, num_steps + 1, keep_every))
    plan = SavesPlan(
        every_steps=every,
        every_minutes=float(settings.save_minutes),
        keep=settings.save_total_limit,
        num=len(saved_steps),
        bytes_each=4 * model.trainable + optimizer_bytes(settings.optim, model),
        keep_every=keep_every,
    )
    return Decision(plan, choices, advise_stopping(plan, float(settings.grace_s)))


def advise_stopping(saves: SavesPlan, grace_s: float) -> tuple[Finding, ...]:
    """A warning if a save is likely to outlast the grace period: a stop would lose steps.

    Args:
        saves: as planned.
        grace_s: how long a stop takes at most, seconds.
    """
    need_s = saves.seconds_each + _CLOSE_S
    if need_s <= grace_s:
        return ()
    whole_s = math.ceil(1.5 * need_s)
    return (
        Finding(
            "warning",
            f"a stop may lose steps: a save takes longer than the {grace_s:g} s it has",
            f"about {units.seconds(need_s)} to save {units.size(saves.bytes_each)}",
            "a save that ends within the grace period",
            (Remedy(f"--grace-s {whole_s}", "how long a stop takes at most"),),
        ),
    )
