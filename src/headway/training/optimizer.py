"""Parameter groups, optimizer, master weights.

Weights stay fp32 throughout, so they are their own master copy: an update smaller than a bf16
step is kept, and shows in the copies that are computed with (`model/mixed_precision.py`) once it
is one.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from headway.runs.plan import LearningPlan


def make_optimizer(parameters: Mapping[str, nn.Parameter], plan: LearningPlan) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv:1711.05101), fused: one pass over the weights.

    Weight decay is for matrices; norms, biases and other vectors are not pulled to zero.
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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """For the next update."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def moments(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """AdamW's state under names of its own: exp_avg/NAME, exp_avg_sq/NAME and step/NAME."""
    return {
        f"{kind}/{name}": optimizer.state[p][kind]
        for name, p in parameters.items()
        if p in optimizer.state
        for kind in ("exp_avg", "exp_avg_sq", "step")
    }


def only_own_counts(saved: Mapping[str, Tensor], num_updates: int) -> dict[str, Tensor]:
    """Moments without the counts of those tensors that have seen every update."""
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
    """Put saved moments back; gives how many parameters got theirs.

    Args:
        optimizer: of the same parameters.
        parameters: by name.
        saved: as `moments` gave them.
        num_updates: that they have seen, for the bias correction; step/NAME, where it was saved,
            is that of one whose first gradient came later.
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
