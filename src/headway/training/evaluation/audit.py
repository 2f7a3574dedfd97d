"""Weight audit: which trainable tensors changed, and by how much."""

import math
from collections.abc import Mapping, Set

import torch
from torch import Tensor, nn

from headway.runs.receipt import MAX_NAMES, TensorAudit


def audit(
    now: Mapping[str, nn.Parameter],
    start: Mapping[str, Tensor],
    no_gradient: Set[str],
) -> TensorAudit:
    """Compare every trainable tensor with its value at the start of the job.

    Args:
        now: the trained parameters, by name.
        start: their values before the first update, by name.
        no_gradient: names of those that never had a non-zero gradient.
    """
    changed: set[str] = set()
    moved_squares = start_squares = 0.0
    with torch.no_grad():
        for name, p in now.items():
            before = start[name].to(p.device, p.dtype)
            if not torch.equal(p, before):
                changed.add(name)
            moved_squares += float(torch.linalg.vector_norm(p - before).double() ** 2)
            start_squares += float(torch.linalg.vector_norm(before).double() ** 2)
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
