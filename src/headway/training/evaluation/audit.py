"""Weight audit: which trainable tensors changed, by how much, and whether they were saved."""

import math
from collections.abc import Mapping, Set
from dataclasses import replace

import torch
from torch import Tensor, nn

from headway.runs.receipt import MAX_NAMES, TensorAudit

_ROUNDING = 2.0**-24  # of fp32, relative


def audit(
    now: Mapping[str, nn.Parameter],
    start: Mapping[str, Tensor],
    no_gradient: Set[str],
) -> TensorAudit:
    """Compare every trainable tensor with its value at the start of the job.

    A weight counts as changed if a stored bit of it did. One that was zero has all of its bits to
    gain, so it counts only if it would show when added to a weight of typical size: an adapter at
    1e-30 changes nothing that the model computes.

    Args:
        now: the trained parameters, by name.
        start: their values before the first update, by name.
        no_gradient: names of those that never had a non-zero gradient.
    """
    changed: set[str] = set()
    moved_squares = 0.0
    sizes = [(_squares(tensor), tensor.numel()) for tensor in start.values()]  # each read once
    start_squares, num_weights = (sum(one) for one in zip(*sizes, strict=True))
    visible = _ROUNDING * math.sqrt(start_squares / num_weights) if num_weights else 0.0
    with torch.no_grad():
        for name, p in now.items():
            before = start[name].to(p.device, p.dtype)
            if _has_changed(p, before, visible):
                changed.add(name)
            moved_squares += _squares(p - before)
    with_gradient = [name for name in now if name not in no_gradient]
    unmoved = [name for name in with_gradient if name not in changed]
    return TensorAudit(
        trainable=len(now),
        with_gradient=len(with_gradient),
        changed=len(changed),
        relative_change=math.sqrt(moved_squares / start_squares) if start_squares else 0.0,
        unmoved=tuple(unmoved[:MAX_NAMES]),
        dead=tuple(sorted(no_gradient)[:MAX_NAMES]),
    )


def compare_saved(
    found: TensorAudit, now: Mapping[str, nn.Parameter], saved: Mapping[str, Tensor]
) -> TensorAudit:
    """Add how many trained tensors a checkpoint holds bit for bit.

    Args:
        found: an audit of the same weights.
        now: the trained parameters, by name.
        saved: the same ones as loaded from the checkpoint.
    """
    with torch.no_grad():
        differing = [n for n, p in now.items() if not torch.equal(saved[n].to(p.device), p)]
    return replace(found, saved=len(now) - len(differing), differing=tuple(differing[:MAX_NAMES]))


def _has_changed(now: Tensor, before: Tensor, visible: float) -> bool:
    if torch.equal(now, before):
        return False
    differs = (now != before) & ((before != 0) | (now.abs() > visible))
    return bool(differs.any())


def _squares(tensor: Tensor) -> float:
    """The sum of squares, in fp64: those of small fp32 numbers vanish."""
    return float(torch.linalg.vector_norm(tensor.detach(), dtype=torch.float64)) ** 2
