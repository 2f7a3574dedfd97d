"""What a file's metadata say becomes config.json; what would be ignored is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.model.gguf.gguf_files import small_model
from tests.model.gguf.gguf_files import write_gguf as write
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from headway.model.gguf.architecture import UnsupportedGgufError, config_of, targets_of
from headway.model.gguf.container import GgufFile, read_gguf
from headway.model.gguf.rope_factors import ROPE_FACTORS


def file_of(tmp_path: Path, model_type: str = "llama", **changes: Any) -> GgufFile:
    tensors = changes.pop("tensors", {})
    return read_gguf(
        write(tmp_path / "a.gguf", small_model(model_type), metadata=changes, tensors=tensors)
    )


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3"])
def test_the_sizes_are_those_of_the_model(model_type: str, tmp_path: Path) -> None:
    theirs = small_model(model_type).config.to_dict()
    ours = config_of(file_of(tmp_path, model_type))
    same = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    same += ("num_key_value_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps")
    same += ("tie_word_embeddings", "model_type", "hidden_act", "rope_parameters")
    assert {name: ours[name] for name in same} == {name: theirs[name] for name in same}


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"llama.attention.value_length": 8}, "attention.value_length 8, heads of 16"),
        ({"llama.rope.dimension_count": 8}, "rope.dimension_count 8, heads of 16"),
        ({"llama.expert_count": 8}, "llama.expert_count 8"),
        ({"llama.attention.sliding_window": 4096}, "llama.attention.sliding_window 4096"),
        ({"llama.logit_scale": 0.5}, "llama.logit_scale 0.5"),
        ({"llama.rope.scaling.type": "yarn"}, "rotary embeddings scaled by 'yarn'"),
        ({"general.type": "adapter"}, "a file of the type 'adapter'"),
        ({"split.count": 2}, "one of 2 parts"),
        ({"general.architecture": "phi3"}, "the architecture 'phi3'"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(
    changes: dict[str, Any], have: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedGgufError, match=have) as caught:
        config_of(file_of(tmp_path, **changes))
    assert caught.value.need


@pytest.mark.parametrize(
    ("changes", "have"),
    [
        ({"llama.block_count": None}, "llama.block_count None"),
        ({"llama.block_count": "two"}, "llama.block_count 'two'"),
        ({"llama.block_count": 4_000_000_000}, "4,000,000,000 layers in 21 tensors"),
        ({"llama.block_count": 3}, "9 tensors are missing"),
        ({"llama.block_count": 0}, "llama.block_count 0"),
        ({"llama.embedding_length": 32}, r"of shape \[4?,?"),
        ({"llama.attention.head_count": 4}, "its metadata says"),
        ({"llama.attention.head_count": True}, "llama.attention.head_count True"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "epsilon nan"),
        ({"llama.attention.layer_norm_rms_epsilon": "small"}, "epsilon 'small'"),
        ({"llama.rope.freq_base": -1.0}, "freq_base -1.0"),
    ],
)
def test_a_value_that_cannot_be_right_is_named(
    changes: dict[str, Any], have: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=have):
        targets_of(made := file_of(tmp_path, **changes), config_of(made))


def test_a_model_without_what_is_asked_for_in_vain_is_fine(tmp_path: Path) -> None:
    plain = config_of(file_of(tmp_path))
    assert config_of(file_of(tmp_path, **{"llama.expert_count": 0})) == plain


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    extra = small_model().model.norm.weight.detach().numpy()
    for name in ("blk.0.ffn_gate_inp.weight", "blk.2.attn_norm.weight", "v.patch_embd.weight"):
        file = file_of(tmp_path, tensors={name: extra})
        with pytest.raises(UnsupportedGgufError, match=name):
            targets_of(file, config_of(file))


@pytest.mark.parametrize("type_key", [{"llama.rope.scaling.type": "linear"}, {}])
def test_linear_scaling_is_kept(type_key: dict[str, str], tmp_path: Path) -> None:
    file = file_of(tmp_path, **{"llama.rope.scaling.factor": 4.0}, **type_key)
    assert config_of(file)["rope_parameters"] == {
        "rope_type": "linear",
        "rope_theta": 10000.0,
        "factor": 4.0,
    }
    off = file_of(tmp_path, **{"llama.rope.scaling.type": "none", "llama.rope.scaling.factor": 4.0})
    assert config_of(off)["rope_parameters"]["rope_type"] == "default"


@pytest.mark.parametrize(("base", "factor"), [(500000.0, 8.0), (500000.0, 32.0)])
def test_llama_3_s_factors_become_its_scaling(base: float, factor: float, tmp_path: Path) -> None:
    """Factors as convert_hf_to_gguf.py writes them: plain frequencies divided by scaled ones."""
    rope: dict[str, Any] = {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(head_dim=64, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / base ** (torch.arange(0, 64, 2) / 64)
    factors = (plain / scaled).tolist()
    changes = {
        "llama.rope.freq_base": base,
        "llama.attention.key_length": 64,
        "llama.attention.value_length": 64,
        "llama.rope.dimension_count": 64,
    }
    file = file_of(tmp_path, **changes)
    assert config_of(file, factors)["rope_parameters"] == rope
    with pytest.raises(UnsupportedGgufError, match=ROPE_FACTORS):
        config_of(file, [*factors[:-1], factors[-1] * 2])
    with pytest.raises(UnsupportedGgufError, match=ROPE_FACTORS):
        config_of(file, factors[:-1])
