"""Learning rate, warmup and optimizer settings, and what the optimizer keeps."""

from headway.base import units
from headway.base.errors import Remedy
from headway.config.optimizers import OPTIMIZERS
from headway.config.settings import Settings
from headway.model.sizes import shape_of
from headway.planning.decision import Decision, adjusted, auto
from headway.runs.plan import LearningPlan, ModelPlan

_PRESET_LEARNING_RATES = {"tiny": 3e-3, "mini": 3e-3, "small": 1e-3, "base": 6e-4}
_LORA_LEARNING_RATE, _FULL_LEARNING_RATE = 2e-4, 2e-5


def decide_learning(settings: Settings, model: ModelPlan, num_steps: int) -> Decision[LearningPlan]:
    """The optimizer and its learning rate over the run."""
    peak = _decide_learning_rate(settings, model)
    warmup = _decide_warmup(settings, num_steps)
    plan = LearningPlan(
        optim=settings.optim,
        peak=peak.value,
        schedule=settings.lr_scheduler_type,
        warmup_steps=warmup.value,
        weight_decay=settings.weight_decay,
        beta1=settings.adam_beta1,
        beta2=settings.adam_beta2,
        epsilon=settings.adam_epsilon,
        max_grad_norm=settings.max_grad_norm,
    )
    return Decision(plan, peak.choices + warmup.choices, peak.findings + warmup.findings)


def optimizer_bytes(optim: str, model: ModelPlan) -> int:
    """Bytes of an optimizer's state in memory and in a checkpoint.

    Args:
        optim: its name.
        model: what is trained: all weights, or adapters, which are matrices. Experts that are
            stacked in one tensor are none.
    """
    matrices = model.trainable
    if model.lora is None:
        shape = shape_of(model.config)
        outside = shape.vocab * shape.hidden * (1 if shape.tied else 2)
        matrices = max(min(shape.linear, model.trainable - outside), 0)
    return OPTIMIZERS[optim].state_bytes(matrices, model.trainable - matrices)


def _decide_learning_rate(settings: Settings, model: ModelPlan) -> Decision[float]:
    times = settings.learning_rate_multiplier or 1.0
    given = settings.learning_rate
    if given is not None and times == 1:
        return Decision(given)
    if given is not None:
        peak, reason = given, f"as in {settings.origin('learning_rate')}"
    elif model.source == "preset":
        peak = _PRESET_LEARNING_RATES[model.name]
        reason = f"usual for {model.name}, trained from scratch"
    elif model.lora:
        peak, reason = _LORA_LEARNING_RATE, "usual for LoRA"
    else:
        peak, reason = _FULL_LEARNING_RATE, "usual for full fine-tuning"
    if times != 1:
        peak, reason = peak * times, f"{times:g} x {units.learning_rate(peak)}, {reason}"
    return Decision(peak, (auto("learning_rate", peak, reason),))


def _decide_warmup(settings: Settings, num_steps: int) -> Decision[int]:
    given = settings.warmup_steps
    if given is None:
        warmup = min(100, num_steps // 20)
        return Decision(warmup, (auto("warmup_steps", warmup, "5% of the steps, at most 100"),))
    warmup = round(given * num_steps) if given < 1 else round(given)
    if warmup < num_steps:
        return Decision(warmup)
    tenth = num_steps // 10
    return adjusted(
        settings,
        "warmup_steps",
        tenth,
        f"warmup_steps lowered to {tenth:,}: warmup would last the whole run",
        asked=given,
        have=f"warmup_steps {given:g}, {units.plural(num_steps, 'step')}",
        need="fewer warmup steps than steps",
        remedies=(Remedy(f"--warmup-steps {tenth}", "10% of the steps"),),
    )
