"""Moments of bitsandbytes' optimizers: codes of 8 bits with scales, or fp32 that may be paged.

A checkpoint has them under AdamW's names: exp_avg/NAME and exp_avg_sq/NAME are codes, and
exp_avg_absmax/NAME and exp_avg_sq_absmax/NAME the scales of their blocks. Moments in fp32 are those
that AdamW of torch has, so that either can go on with them.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

SCALES = "exp_avg_absmax"
# Name in a checkpoint -> in the optimizer's state.
_NAMES = {
    "exp_avg": "state1",
    "exp_avg_sq": "state2",
    SCALES: "absmax1",
    "exp_avg_sq_absmax": "absmax2",
}


def are_in(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer is bitsandbytes'."""
    return type(optimizer).__module__.startswith("bitsandbytes.")


def read(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """The optimizer's state by name, and step/NAME."""
    found: dict[str, Tensor] = {}
    for name, p in parameters.items():
        state: Mapping[str, Any] = optimizer.state.get(p, {})
        found |= {f"{kind}/{name}": state[own] for kind, own in _NAMES.items() if own in state}
        if "step" in state:
            found[f"step/{name}"] = torch.tensor(float(state["step"]))
    return found


def restore(
    optimizer: Any,
    parameters: Mapping[str, nn.Parameter],
    saved: Mapping[str, Tensor],
    num_updates: int,
) -> int:
    """Restore saved moments where they are in the number format that the optimizer has.

    Args:
        optimizer: of bitsandbytes.
        parameters: by name.
        saved: as `read` or torch's AdamW gave them.
        num_updates: that they have seen, but for those with a step/NAME.

    Returns:
        The number of parameters that had some.
    """
    restored = 0
    for name, p in parameters.items():
        if f"exp_avg/{name}" not in saved:
            continue
        group = next(g for g in optimizer.param_groups if any(p is one for one in g["params"]))
        optimizer.init_state(group, p, 0, 0)
        state = optimizer.state[p]
        own = {at: saved.get(f"{kind}/{name}") for kind, at in _NAMES.items()}
        if any(_format(tensor) != _format(state.get(at)) for at, tensor in own.items()):
            del optimizer.state[p]
            continue
        for at, tensor in own.items():
            if tensor is not None:
                state[at].copy_(tensor)
        state["step"] = round(float(saved.get(f"step/{name}", num_updates)))
        restored += 1
    return restored


def _format(tensor: Tensor | None) -> torch.dtype | None:
    return None if tensor is None else tensor.dtype
