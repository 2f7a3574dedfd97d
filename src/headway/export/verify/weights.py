"""Weights of a GGUF file beside those of a model: which one differs, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from headway.export.gguf.formats import row_order
from headway.model.gguf.container import GgufFile, GgufTensor, mapped
from headway.model.gguf.layout import TensorTarget

# By how much of its size a number format may change a tensor, about. Rounding to bf16 first would
# show in 16 bits: it makes 8e-4.
_TOLERANCE = {"F32": 1e-6, "F16": 4e-4, "BF16": 5e-3, "Q8_0": 0.02, "Q6_K": 0.06}
_TOLERANCE_OF_OTHERS = 0.2
_BF16 = 5e-3
_HEAD, _EMBEDDING = "output.weight", "token_embd.weight"

Values = NDArray[np.float32]


class WeightProblem(StrEnum):
    """How a weight differs."""

    MISSING = "is not in the file"
    NOT_PERMUTED = "has the rows of transformers: queries and keys are not permuted"
    TRANSPOSED = "is transposed"
    ROUNDED = "was rounded to bf16 before it was written"
    UNTIED = "is in the file beside the embedding, which it should be, with other values"
    NOT_SHIFTED = "is smaller by 1 than llama.cpp expects"
    OTHER = "has other values"


@dataclass(frozen=True)
class DifferingWeight:
    """A weight that differs.

    Attributes:
        name: in llama.cpp.
        problem: how.
        share: of its own size, about.
    """

    name: str
    problem: WeightProblem
    share: float = 0.0

    def __str__(self) -> str:
        """As a part of a sentence."""
        more = f" ({self.share:.2g} of their size apart)" if self.share else ""
        return f"{self.name} {self.problem}{more}"


def find_differing_weight(
    file: GgufFile,
    layout: Mapping[str, TensorTarget],
    weights: Mapping[str, Any],
    on_tensor: Callable[[], None] = lambda: None,
) -> DifferingWeight | None:
    """The first weight that is not what the model has; None if all are.

    Args:
        file: GGUF.
        layout: what each of its tensors should be.
        weights: the model's, by name, as torch tensors.
        on_tensor: called after each.
    """
    if _HEAD in file.tensors and _HEAD not in layout:
        head, embedding = (_values(file, file.tensors[n]) for n in (_HEAD, _EMBEDDING))
        if head.shape != embedding.shape or not np.array_equal(head, embedding):
            return DifferingWeight(_HEAD, WeightProblem.UNTIED)
    for name, target in layout.items():
        if name not in file.tensors:
            return DifferingWeight(name, WeightProblem.MISSING)
        stored = file.tensors[name]
        found = _values(file, stored)
        model = np.asarray(weights[target.name].detach().float().numpy(), np.float32)
        problem = _problem(found, model, target, _tolerance(stored.kind))
        if problem:
            return DifferingWeight(name, *problem)
        on_tensor()
    return None


def model_values(file: GgufFile, name: str, target: TensorTarget) -> Values:
    """The values of a tensor as the model has them: shape, order of rows, without what is added.

    Args:
        file: GGUF.
        name: of the tensor in there.
        target: what it is.
    """
    found = _values(file, file.tensors[name])
    if target.plus:
        found = found - np.float32(target.plus)
    order = row_order(len(found), target.heads)
    if order is None:
        return np.ascontiguousarray(found)
    values = np.empty_like(found)
    values[order] = found
    return values


def _tolerance(kind: str) -> float:
    return _TOLERANCE.get(kind, _TOLERANCE_OF_OTHERS)


def _problem(
    found: Values, model: Values, target: TensorTarget, tolerance: float
) -> tuple[WeightProblem, float] | None:
    expected = _changed(model, target.heads, target.plus)
    apart = _share(found, expected)
    if apart <= tolerance:
        return None
    others: dict[WeightProblem, Values | None] = {
        WeightProblem.NOT_PERMUTED: _changed(model, 0, target.plus) if target.heads else None,
        WeightProblem.NOT_SHIFTED: model if target.plus else None,
        WeightProblem.TRANSPOSED: _turned(expected),
    }
    for problem, values in others.items():
        if values is not None and _share(found, values) <= tolerance:
            return problem, 0.0
    is_rounded = tolerance < _BF16 and apart <= _BF16
    return WeightProblem.ROUNDED if is_rounded else WeightProblem.OTHER, apart


def _changed(model: Values, heads: int, plus: float) -> Values:
    order = row_order(len(model), heads)
    values = model if order is None else model[order]
    return values + np.float32(plus) if plus else values


def _turned(values: Values) -> Values | None:
    """The transposed matrix in the shape that the file has."""
    return values.T.reshape(values.shape) if values.ndim > 1 else None


def _share(found: Values, expected: Values) -> float:
    """How far two tensors are apart, as a share of their size."""
    if found.shape != expected.shape:
        return float("inf")
    size = float(np.sqrt(np.mean(np.square(expected, dtype=np.float64)))) or 1.0
    return float(np.sqrt(np.mean(np.square(found - expected, dtype=np.float64)))) / size


def _values(file: GgufFile, tensor: GgufTensor) -> Values:
    from gguf.constants import GGMLQuantizationType
    from gguf.quants import dequantize

    with mapped(file.path) as data:
        raw = np.frombuffer(data, np.uint8, tensor.num_bytes, tensor.offset)
        rows = raw.reshape(*tensor.shape[:-1], -1)
        return dequantize(rows, GGMLQuantizationType[tensor.kind]).astype(np.float32)
