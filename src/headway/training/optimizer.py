"""AdamW over fp32 master weights, and the learning-rate schedule.

Weights stay fp32 throughout, so they are their own master copy: an update smaller than a bf16 step
is kept, and shows in the bf16 copies (`model/mixed_precision.py`) once it adds up to a step.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from headway.runs.plan import LearningPlan


def make_optimizer(parameters: Mapping[str, nn.Parameter], plan: LearningPlan) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused: one pass over the weights.

    Weight decay applies to matrices only, not to norms, biases and other vectors.
    """
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": plan.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=plan.peak,
        betas=(plan.beta1, plan.beta2),
        eps=plan.epsilon,
        fused=True,
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
    """AdamW's state by name: exp_avg/NAME, exp_avg_sq/NAME and step/NAME."""
    return {
        f"{kind}/{name}": optimizer.state[p][kind]
        for name, p in parameters.items()
        if p in optimizer.state
        for kind in ("exp_avg", "exp_avg_sq", "step")
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
    restored = 0
    for name, p in parameters.items():
        if f"exp_avg/{name}" not in saved:
            continue
        optimizer.state[p] = {
            "step": torch.tensor(
                float(saved.get(f"step/{name}", num_updates)), dtype=torch.float32, device=p.device
            ),
            "exp_avg": saved[f"exp_avg/{name}"].to(p.device),
            "exp_avg_sq": saved[f"exp_avg_sq/{name}"].to(p.device),
        }
        restored += 1
    return restored
