"""Second look at a file whose probabilities differ: the number format, or something else.

Some models are more sensitive to rounding than others. With the file's own weights, PyTorch shows
what rounding them does; what llama.cpp does beyond that must be of the same size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headway.base.errors import Cause, Finding, Remedy
from headway.export.request import ExportCheck
from headway.export.verify.checks import (
    LIMITS,
    CheckOutcome,
    Difference,
    Distances,
    LikelyTokens,
    compare_probabilities,
    distances,
    farthest_limit,
)
from headway.export.verify.reference import Reference
from headway.export.verify.weights import model_values
from headway.model.gguf.container import read_gguf
from headway.model.gguf.layout import TensorTarget

MORE = 4.0  # times the limit of a number format, for a model that is more sensitive than most
AGAIN = "the same beside PyTorch with the file's weights"
_TWICE = 2.0  # llama.cpp rounds what it multiplies by weights as much as these were rounded


def rounds(quantize: str) -> bool:
    """Whether weights are rounded at all in a number format."""
    return quantize != "f32"


def judge_rounding(
    file: Path,
    layout: Mapping[str, TensorTarget],
    reference: Reference,
    probed: LikelyTokens,
    quantize: str,
    on_tensor: Callable[[], None] = lambda: None,
) -> list[CheckOutcome]:
    """Compare llama.cpp with the model as it was trained, and with the file's own weights.

    Args:
        file: GGUF; each of its weights is the model's, rounded.
        layout: what its tensors are.
        reference: the model, merged. It gets the file's weights.
        probed: what llama.cpp finds likely.
        quantize: the number format of the weights.
        on_tensor: called after each.
    """
    limit = LIMITS[quantize]
    outcomes = compare_probabilities(probed, reference, quantize, MORE * limit)
    outcomes = [
        one if one.check.passed else CheckOutcome(one.check, Difference.ROUNDING)
        for one in outcomes
    ]
    trained_TV = reference.log_probabilities(probed.ids, probed.begin)
    put_weights(file, layout, reference.model, on_tensor)
    rounded_TV = reference.log_probabilities(probed.ids, probed.begin)
    rounding = _rounding(trained_TV, rounded_TV, probed)
    farthest = farthest_limit(quantize, limit)
    return [*outcomes, *_computing(distances(probed, reference), rounding, limit, farthest)]


@dataclass(frozen=True)
class _Rounding:
    """What rounding the weights alone does to the log-probabilities that are compared."""

    expected: float
    farthest: float


def _rounding(
    trained_TV: torch.Tensor, rounded_TV: torch.Tensor, probed: LikelyTokens
) -> _Rounding:
    weighted = farthest = 0.0
    for ours_V, theirs_V, top in zip(trained_TV, rounded_TV, probed.tops, strict=True):
        tokens = list(top)
        apart = (ours_V[tokens] - theirs_V[tokens]).abs()
        weighted += float((ours_V[tokens].exp() * apart).sum())
        farthest = max(farthest, float(apart.max()))
    return _Rounding(weighted / len(probed.tops), farthest)


def _computing(
    found: Distances, rounding: _Rounding, limit: float, farthest: float
) -> list[CheckOutcome]:
    """What llama.cpp does beyond rounding the weights."""
    limit = max(limit, _TWICE * rounding.expected)
    farthest = max(farthest, _TWICE * rounding.farthest)
    alone = f"rounding the weights alone makes {rounding.expected:.4f}; {found.where}"
    checks = (
        ExportCheck(AGAIN, found.expected <= limit, found.expected, limit, alone),
        ExportCheck("the farthest of these", found.farthest <= farthest, found.farthest, farthest),
    )
    return [CheckOutcome(one, None if one.passed else Difference.PROBABILITIES) for one in checks]


def put_weights(
    file: Path,
    layout: Mapping[str, TensorTarget],
    model: Any,
    on_tensor: Callable[[], None] = lambda: None,
) -> None:
    """Give a model the weights of a file.

    Args:
        file: GGUF.
        layout: what its tensors are.
        model: of the same shape, without adapters.
        on_tensor: called after each.
    """
    read, weights = read_gguf(file), model.state_dict()
    with torch.no_grad():
        for name, target in layout.items():
            weights[target.name].copy_(torch.from_numpy(model_values(read, name, target)))
            on_tensor()


def sensitive(quantize: str, outcomes: list[CheckOutcome]) -> Finding:
    """What a person should know of a model that a number format changes more than most.

    Args:
        quantize: the number format.
        outcomes: of `judge_rounding`, all passed.
    """
    total, computing = outcomes[0].check, outcomes[-2].check
    return Finding(
        "warning",
        f"{quantize} changes the probabilities of this model more than usual",
        have=f"an expected difference of {total.measured:.2g} between its log-probabilities; with "
        f"the file's weights, PyTorch and llama.cpp differ by {computing.measured:.2g}",
        need=f"{LIMITS[quantize]:.2g} or less, as with most models",
        remedies=(Remedy("--quantize f16", "rounds less"),),
        cause=Cause.EXPORT_DIFFERS,
    )
