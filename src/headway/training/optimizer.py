"""Optimizers over fp32 master weights, and the learning-rate schedule.

Weights stay fp32 throughout, so they are their own master copy: an update smaller than a bf16 step
is kept, and shows in the bf16 copies (`model/mixed_precision.py`) once it adds up to a step.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from headway.base.errors import Cause, Remedy, UsageError
from headway.model.quantized import coded_moments
from headway.model.quantized.library import import_bitsandbytes
from headway.runs.plan import LearningPlan

# The state of a parameter that a checkpoint has, besides its number of updates. A group of the
# optimizer has the names of its own under "kept".
_KEPT_BY_ADAMW, _KEPT_BY_MUON = ("exp_avg", "exp_avg_sq"), ("momentum_buffer",)


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], plan: LearningPlan, hidden: Collection[str] = ()
) -> torch.optim.Optimizer:
    """The optimizer of a plan; `config/optimizers.py` has what is known of each.

    Args:
        parameters: everything trainable, by name.
        plan: which optimizer, and its settings.
        hidden: names of the matrices of hidden layers, as `hidden_matrices` gives them.

    Raises:
        UsageError: it has nothing to train in this model.
    """
    return _MAKERS[plan.optim](parameters, plan, hidden)


def _make_adamw(
    parameters: Mapping[str, nn.Parameter], plan: LearningPlan, _: Collection[str]
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused: one pass over the weights."""
    return _adamw(parameters.values(), plan)


def _adamw(parameters: Iterable[nn.Parameter], plan: LearningPlan) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        _decay_groups(parameters, plan),
        lr=plan.peak,
        betas=(plan.beta1, plan.beta2),
        eps=plan.epsilon,
        fused=True,
    )


def _decay_groups(parameters: Iterable[nn.Parameter], plan: LearningPlan) -> list[dict[str, Any]]:
    """Weight decay applies to matrices only, not to norms, biases and other vectors."""
    each = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in each if p.ndim >= 2], "weight_decay": plan.weight_decay},
        {"params": [p for p in each if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _made_by_bitsandbytes(name: str) -> "_Maker":
    """AdamW with moments in 8 bits, or in memory that moves to the host; by bitsandbytes' name."""

    def make(
        parameters: Mapping[str, nn.Parameter], plan: LearningPlan, _: Collection[str]
    ) -> torch.optim.Optimizer:
        kind: Any = getattr(import_bitsandbytes().optim, name)
        groups, betas = _decay_groups(parameters.values(), plan), (plan.beta1, plan.beta2)
        return kind(groups, lr=plan.peak, betas=betas, eps=plan.epsilon)

    return make


def _make_muon(
    parameters: Mapping[str, nn.Parameter], plan: LearningPlan, hidden: Collection[str]
) -> torch.optim.Optimizer:
    """Muon for the matrices of hidden layers, AdamW for embeddings, the head and all others.

    An update is as large as AdamW's (Liu et al. 2025, arXiv:2502.16982, section 2.2), so that
    AdamW's learning rate and weight decay fit. Momentum and iterations are torch's defaults.

    Raises:
        UsageError: the model has no such matrix to train.
    """
    matrices = [p for name, p in parameters.items() if name in hidden]
    others = [p for name, p in parameters.items() if name not in hidden]
    if not matrices:
        raise UsageError(
            "Muon has nothing to train in this model",
            cause=Cause.NOTHING_TRAINABLE,
            have=f"0 of {len(parameters)} trainable tensors are matrices of hidden layers",
            need="at least one",
            remedies=(Remedy("--optim adamw", "trains tensors of all shapes"),),
        )
    muon = torch.optim.Muon(
        [{"params": matrices, "kept": _KEPT_BY_MUON}],
        lr=plan.peak,
        weight_decay=plan.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )
    return _Together(muon, *([_adamw(others, plan)] if others else []))


_Maker = Callable[
    [Mapping[str, nn.Parameter], LearningPlan, Collection[str]], torch.optim.Optimizer
]
_MAKERS: Mapping[str, _Maker] = {
    "adamw": _make_adamw,
    "adamw_8bit": _made_by_bitsandbytes("AdamW8bit"),
    "paged_adamw": _made_by_bitsandbytes("PagedAdamW32bit"),
    "paged_adamw_8bit": _made_by_bitsandbytes("PagedAdamW8bit"),
    "muon": _make_muon,
}


class _Together(torch.optim.Optimizer):
    """Optimizers of different parameters, as one.

    Args:
        parts: the optimizers; their groups and their state become this one's.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        for part in parts:
            part.state = self.state
        self._parts = parts

    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update all parameters."""
        for part in self._parts:
            part.step(closure)


def hidden_matrices(model: nn.Module) -> frozenset[str]:
    """Names of the trainable matrices of hidden layers: weights of linear layers, but the head.

    Not: embeddings, routers and other tables, and experts that are stacked in one tensor.
    """
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layer

    head = cast("Any", model).get_output_embeddings()
    tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
    outside = {id(getattr(one, "weight", None)) for one in (head, *tables)}
    return frozenset(
        f"{name}.weight"
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module.weight.requires_grad
        and module.weight.ndim == 2
        and id(module.weight) not in outside
    )


def learning_rate(plan: LearningPlan, step: int, num_steps: int) -> float:
    """The learning rate of one step: a pure function, so a resume restores nothing.

    Greater than 0 on every planned step. Warm-up is peak * step / (warmup + 1), so step 1 moves
    weights; the decay reaches its floor, 0, after the last step, not on it.

    Args:
        plan: peak, warm-up and schedule.
        step: of this job, 1 to `num_steps`.
        num_steps: of this job.
    """
    if step <= plan.warmup_steps:
        return plan.peak * step / (plan.warmup_steps + 1)
    past = (step - plan.warmup_steps - 1) / (num_steps - plan.warmup_steps)
    match plan.schedule:
        case "constant":
            return plan.peak
        case "wsd":  # warm-up, stable, decay (Hu et al. 2024, arXiv:2404.06395)
            left = num_steps - step + 1
            return plan.peak * min(left / (plan.decay_steps(num_steps) + 1), 1.0)
        case "linear":
            return plan.peak * (1 - past)
        case "cosine":
            return plan.peak * math.cos(math.pi / 2 * past) ** 2  # (1 + cos(pi past)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimizer's state by name: KIND/NAME; AdamW's has exp_avg, exp_avg_sq and step.

    Moments in 8 bits are codes, with the scales of their blocks beside them.
    """
    if coded_moments.are_in(optimizer):
        return coded_moments.read(optimizer, parameters)
    kinds = kept_kinds(optimizer)
    return {
        f"{kind}/{name}": optimizer.state[p][kind]
        for name, p in parameters.items()
        if p in optimizer.state
        for kind in (*kinds[p], "step")
        if kind in optimizer.state[p]
    }


def kept_kinds(optimizer: torch.optim.Optimizer) -> dict[Tensor, tuple[str, ...]]:
    """The names of what is kept for each parameter, besides its number of updates."""
    return {
        p: group.get("kept", _KEPT_BY_ADAMW)
        for group in optimizer.param_groups
        for p in group["params"]
    }


def without_common_counts(saved: Mapping[str, Tensor], num_updates: int) -> dict[str, Tensor]:
    """Moments without step/NAME where it equals `num_updates`, as it does for most tensors."""
    return {
        name: tensor
        for name, tensor in saved.items()
        if not name.startswith("step/") or tensor != num_updates
    }


def restore_moments(
    optimizer: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    saved: Mapping[str, Tensor],
    num_updates: int,
) -> int:
    """Restore saved moments; returns the number of parameters that had some.

    Args:
        optimizer: of the same parameters.
        parameters: by name.
        saved: as `moments` gave them.
        num_updates: that they have seen, for the bias correction. A saved step/NAME wins: that
            tensor got its first gradient later.
    """
    if coded_moments.are_in(optimizer):
        return coded_moments.restore(optimizer, parameters, saved, num_updates)
    restored, kinds = 0, kept_kinds(optimizer)
    for name, p in parameters.items():
        kept = kinds.get(p, ())
        if not kept or any(f"{kind}/{name}" not in saved for kind in kept):
            continue  # it never had a gradient, or another optimizer trained it
        if f"{coded_moments.SCALES}/{name}" in saved:
            continue  # an optimizer with moments in 8 bits trained it
        state = {kind: saved[f"{kind}/{name}"].to(p.device) for kind in kept}
        if kept != _KEPT_BY_MUON:
            count = float(saved.get(f"step/{name}", num_updates))
            state["step"] = torch.tensor(count, dtype=torch.float32, device=p.device)
        optimizer.state[p] = state
        restored += 1
    return restored
