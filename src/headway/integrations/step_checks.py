"""Step checks: signs in a step, before its update is applied, that it does not train."""

import math
from dataclasses import dataclass

from headway.base.errors import BrokenContract, Cause, DataRefused, Finding, Refusal, Remedy
from headway.base.units import count, learning_rate, plural, share
from headway.runs.watched.watched_receipt import SeenTensors

LOOK_AT_WEIGHTS = 10  # updates after which most tensors should have moved
_MOST_MASKED = 0.01  # of the steps
_ZERO_IN_A_ROW = 3
_NAMES = 3


@dataclass(frozen=True)
class StepSeen:
    """What is known of a step before its update.

    Attributes:
        update: its number in this run, from 1.
        loss: as the Trainer adds it up; None if it is not known.
        grad_norm: of all gradients before clipping; None if it is not known.
        rate: the learning rate.
        trained: tokens; None if they were not counted, or other processes have some too.
        masked_before: earlier steps without a trained token.
        zero_before: steps directly before this one whose gradient was exactly 0.
        gradients: tensors with a gradient, and of how many it is not 0; None: not looked at.
        trainable: tensors.
        may_overflow: fp16 looks for its scale, so that a gradient may not be finite.
    """

    update: int
    loss: float | None = None
    grad_norm: float | None = None
    rate: float | None = None
    trained: int | None = None
    masked_before: int = 0
    zero_before: int = 0
    gradients: tuple[int, int] | None = None
    trainable: int = 0
    may_overflow: bool = False

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite, or not known.

        The mean loss of no tokens is 0/0, which spoils nothing as long as the gradient is finite.
        """
        norms = () if self.may_overflow else (self.grad_norm,)
        losses = () if self.trained == 0 else (self.loss,)
        return all(value is None or math.isfinite(value) for value in (*losses, *norms))


def step_problem(seen: StepSeen) -> Refusal | None:
    """Why this step does not train; None if nothing shows that."""
    masked = _masked(seen) if seen.trained == 0 else None
    if masked is not None or seen.is_finite:
        return masked or (_no_gradient(seen) if seen.trained != 0 else None)
    return _not_finite(seen)


def weights_problem(tensors: SeenTensors, update: int) -> Refusal | Finding | None:
    """What the weights show after an update with a learning rate above 0."""
    if not tensors.trainable:
        return None
    if not tensors.changed:
        return BrokenContract(
            f"no weight has changed after {plural(update, 'update')}",
            cause=Cause.CONTRACT_BROKEN,
            have=f"{plural(tensors.trainable, 'trainable tensor')}, the same to the last bit",
            need="an optimizer that updates this model, in steps large enough for its number "
            "format",
            remedies=(
                Remedy("Trainer(..., optimizers=(None, None))", "the Trainer makes one for it"),
                Remedy("model.float()", "if the weights are in bf16 or fp16"),
            ),
        )
    if update >= LOOK_AT_WEIGHTS and tensors.changed < tensors.trainable / 2:
        names = ", ".join(tensors.unmoved[:_NAMES] or tensors.dead[:_NAMES])
        return Finding(
            "warning",
            f"only {share(tensors.changed, tensors.trainable)} of the trainable tensors move",
            have=f"{count(tensors.trainable - tensors.changed)} unchanged after "
            f"{plural(update, 'update')}, such as {names}",
            need="updates that are not lost in rounding",
            remedies=(
                Remedy("model.float()", "keeps weights in fp32; bf16=True still computes in bf16"),
            ),
            cause=Cause.CONTRACT_BROKEN,
        )
    return None


def gradient_finding(dead: list[str], trainable: int, update: int) -> Finding | None:
    """What to say of tensors that never had a gradient; None if all had one."""
    if not dead or len(dead) == trainable:
        return None
    more = " and others" if len(dead) > _NAMES else ""
    return Finding(
        "warning",
        f"{plural(len(dead), 'trainable tensor')} of {count(trainable)} had no gradient in "
        f"{plural(update, 'update')}",
        have=f"{', '.join(dead[:_NAMES])}{more}",
        need="every trainable tensor to take part in the loss, or to be frozen",
        remedies=(
            Remedy(
                "TrainingArguments(activation_checkpointing_kwargs={'use_reentrant': False})",
                "if layers are recomputed in the backward pass",
            ),
            Remedy(
                f"model.get_parameter('{dead[0]}').requires_grad_(False)", "if that is intended"
            ),
        ),
        cause=Cause.NO_GRADIENT,
    )


def _not_finite(seen: StepSeen) -> Refusal:
    loss = "unknown" if seen.loss is None else f"{seen.loss:g}"
    norm = "unknown" if seen.grad_norm is None else f"{seen.grad_norm:g}"
    rate = (seen.rate or 1e-5) / 10
    return BrokenContract(
        f"loss or gradient is not finite in update {count(seen.update)}",
        cause=Cause.NOT_FINITE,
        have=f"loss {loss}, gradient norm {norm}"
        + (f", learning rate {learning_rate(seen.rate)}" if seen.rate is not None else ""),
        need="finite numbers: any other update would ruin every weight",
        remedies=(
            Remedy(f"TrainingArguments(learning_rate={learning_rate(rate)})"),
            Remedy("TrainingArguments(max_grad_norm=1.0)", "limits each update"),
            Remedy("TrainingArguments(bf16=True)", "in place of fp16, which overflows"),
        ),
    )


def _masked(seen: StepSeen) -> Refusal | None:
    """A rare batch without labels is not a fault; a first one, or many, are."""
    masked = seen.masked_before + 1
    is_rare = masked < _ZERO_IN_A_ROW or masked <= _MOST_MASKED * seen.update
    if seen.update > 1 and is_rare:
        return None
    of = plural(seen.update, "update")
    return DataRefused(
        f"no token is trained in {count(masked)} of {of}: all labels are masked",
        cause=Cause.NO_USABLE_RECORDS,
        have=f"loss {0.0 if seen.loss is None else seen.loss:g}",
        need="labels other than -100 in each batch",
        remedies=(
            Remedy("next(iter(trainer.get_train_dataloader()))['labels']", "shows some"),
            Remedy("a longer max_length", "if the answers are cut off"),
        ),
    )


def _no_gradient(seen: StepSeen) -> Refusal | None:
    if seen.gradients is not None and not seen.gradients[1] and not seen.may_overflow:
        have = f"{count(seen.gradients[0])} of {plural(seen.trainable, 'trainable tensor')}"
        have += " have a gradient, and each is 0"
        looked = f"update {count(seen.update)}"
    elif seen.grad_norm == 0.0 and seen.zero_before + 1 >= _ZERO_IN_A_ROW:
        have = "a gradient norm of exactly 0"
        looked = f"{plural(seen.zero_before + 1, 'update')} in a row"
    else:
        return None
    loss = "" if seen.loss is None else f", loss {seen.loss:g}"
    return BrokenContract(
        f"the gradient is exactly 0 in {looked}: nothing is learned",
        cause=Cause.NO_GRADIENT,
        have=have + loss,
        need="a loss that depends on the trainable weights",
        remedies=(
            Remedy("model.enable_input_require_grads()", "for adapters with checkpointing"),
            Remedy("[n for n, p in model.named_parameters() if p.grad is None]", "after a step"),
        ),
    )
