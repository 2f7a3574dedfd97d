"""Every tensor of a model has a place in the file, with its shape."""

import pytest
from tests.export.models import ARCHITECTURES, SHAPE
from tests.helpers import causal

from headway.export.gguf.architecture import ARCHITECTURES as NAMES
from headway.model.gguf.layout import tensor_layout


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("tied", [True, False])
def test_the_tensors_are_those_of_transformers(kind: str, tied: bool) -> None:
    if kind == "gemma3_text" and not tied:
        tied = True  # it has no head of its own
    config = {**SHAPE, **ARCHITECTURES[kind], "tie_word_embeddings": tied, "vocab_size": 40}
    model = causal(kind, **config)
    layout = tensor_layout(config, NAMES[kind])
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if tied:
        theirs.pop("lm_head.weight", None)
    assert {target.name: target.shape for target in layout.values()} == theirs


def test_only_llama_interleaves_rotary_halves() -> None:
    config = {**SHAPE, "vocab_size": 40}
    for kind in ("llama", "qwen2", "qwen3", "gemma3", "phi3"):
        heads = {one.heads for one in tensor_layout(config, kind).values()}
        assert heads == ({0, 2, 4} if kind == "llama" else {0})


def test_only_norms_of_gemma3_have_one_added() -> None:
    config = {**SHAPE, "vocab_size": 40}
    for name, target in tensor_layout(config, "gemma3").items():
        assert target.plus == (1.0 if "norm" in name else 0.0), name
    assert not any(one.plus for one in tensor_layout(config, "qwen3").values())
