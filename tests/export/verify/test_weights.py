"""The weight that differs, and how: each thing that converters did to one."""

from pathlib import Path

import pytest
import torch

from headway.export.gguf.formats import format_of
from headway.export.gguf.write import PlannedTensor, write_gguf
from headway.export.verify.weights import WeightProblem, find_differing_weight
from headway.model.gguf.container import read_gguf
from headway.model.gguf.layout import TensorTarget

Q, NORM, EMBEDDING = "blk.0.attn_q.weight", "output_norm.weight", "token_embd.weight"
LAYOUT = {
    Q: TensorTarget("q", (32, 32), heads=2),
    NORM: TensorTarget("norm", (32,), plus=1.0),
    EMBEDDING: TensorTarget("embedding", (48, 32)),
}
DRAWS = torch.Generator().manual_seed(0)
MODEL = {
    target.name: torch.randn(target.shape, generator=DRAWS) + (0.0 if target.heads else 0.5)
    for target in LAYOUT.values()
}


def found(
    tmp_path: Path,
    quantize: str = "f32",
    layout: dict[str, TensorTarget] = LAYOUT,
    **stored: torch.Tensor,
) -> object:
    """What differs in a file in which some tensors are others."""
    values = MODEL | stored
    planned = [
        PlannedTensor(name, target, format_of(name, target.shape, quantize, 1, tied=True))
        for name, target in layout.items()
    ]
    path = tmp_path / "a.gguf"
    tensors = [(target.name, values[target.name]) for target in layout.values()]
    write_gguf(path, "llama", {}, {}, planned, tensors, lambda _: None)
    return find_differing_weight(read_gguf(path), LAYOUT, MODEL)


@pytest.mark.parametrize("quantize", ["f32", "f16", "bf16", "q8_0", "q5_k_m", "q4_k_m"])
def test_what_a_number_format_does_is_no_difference(quantize: str, tmp_path: Path) -> None:
    assert found(tmp_path, quantize) is None


@pytest.mark.parametrize(
    ("stored", "name", "problem"),
    [
        ({"q": MODEL["q"] * 1.5}, Q, WeightProblem.OTHER),
        ({"q": MODEL["q"].bfloat16().float()}, Q, WeightProblem.ROUNDED),
        ({"norm": MODEL["norm"] - 1}, NORM, WeightProblem.NOT_SHIFTED),
        (
            {"embedding": MODEL["embedding"].T.reshape(48, 32)},
            EMBEDDING,
            WeightProblem.TRANSPOSED,
        ),
    ],
)
def test_other_values(
    stored: dict[str, torch.Tensor], name: str, problem: WeightProblem, tmp_path: Path
) -> None:
    weight = found(tmp_path, **stored)
    assert (weight.name, weight.problem) == (name, problem)  # type: ignore[attr-defined]
    assert name in str(weight)


def test_rows_that_are_not_permuted(tmp_path: Path) -> None:
    weight = found(tmp_path, layout=LAYOUT | {Q: TensorTarget("q", (32, 32))})
    assert weight.problem is WeightProblem.NOT_PERMUTED  # type: ignore[attr-defined]


def test_a_missing_weight(tmp_path: Path) -> None:
    weight = found(tmp_path, layout={Q: LAYOUT[Q], NORM: LAYOUT[NORM]})
    assert (weight.name, weight.problem) == (EMBEDDING, WeightProblem.MISSING)  # type: ignore[attr-defined]


def test_a_head_beside_a_tied_embedding(tmp_path: Path) -> None:
    layout = LAYOUT | {"output.weight": TensorTarget("head", (48, 32))}
    assert found(tmp_path, layout=layout, head=MODEL["embedding"]) is None
    weight = found(tmp_path, layout=layout, head=MODEL["embedding"] + 0.01)
    assert weight.problem is WeightProblem.UNTIED  # type: ignore[attr-defined]
