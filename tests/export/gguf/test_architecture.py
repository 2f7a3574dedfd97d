"""A configuration in llama.cpp's words; what it would compute otherwise is refused."""

from typing import Any

import pytest

from headway.export.gguf.architecture import UnsupportedModelError, architecture_of

LLAMA = {
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}
PHI3 = LLAMA | {
    "model_type": "phi3",
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.75,
        "original_max_position_embeddings": 4096,
        "long_factor": [2.0] * 6,
        "short_factor": [1.0] * 6,
    },
}
GEMMA3 = LLAMA | {
    "model_type": "gemma3_text",
    "hidden_activation": "gelu_pytorch_tanh",
    "num_hidden_layers": 7,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "sliding_window": 512,
    "tie_word_embeddings": True,
    "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
}


def test_sizes_that_a_configuration_leaves_out() -> None:
    found = architecture_of(LLAMA)
    assert found.name == "llama"
    assert found.metadata["llama.attention.head_count_kv"] == 4
    assert found.metadata["llama.attention.key_length"] == 16
    assert found.metadata["llama.rope.dimension_count"] == 16
    assert (found.config["head_dim"], found.config["num_key_value_heads"]) == (16, 4)


def test_the_long_factors_of_phi3() -> None:
    found = architecture_of(PHI3)
    assert found.metadata["phi3.rope.dimension_count"] == 12
    assert found.metadata["phi3.rope.scaling.original_context_length"] == 4096
    assert found.metadata["phi3.rope.scaling.attn_factor"] == pytest.approx(1.1902380714)
    assert found.tensors["rope_factors_long.weight"] == [2.0] * 6
    assert found.tensors["rope_factors_short.weight"] == [1.0] * 6


def test_gemma3_has_its_window_and_the_scaling_of_the_layers_that_see_everything() -> None:
    found = architecture_of(GEMMA3)
    assert found.metadata["gemma3.attention.sliding_window"] == 512
    assert found.metadata["gemma3.rope.freq_base"] == 1e6
    assert found.metadata["gemma3.rope.scaling.factor"] == 8.0
    assert found.findings == ()


def test_a_window_that_llama_cpp_does_not_have_limits_the_context() -> None:
    found = architecture_of(LLAMA | {"model_type": "mistral", "sliding_window": 1024})
    assert found.metadata["llama.context_length"] == 1024
    assert found.findings[0].kind == "adjusted"
    unused = architecture_of(
        LLAMA | {"model_type": "qwen2", "sliding_window": 1024, "use_sliding_window": False}
    )
    assert unused.metadata["qwen2.context_length"] == 4096
    assert unused.findings == ()


def rope(**changes: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 1e4, **changes}}


@pytest.mark.parametrize(
    ("config", "have"),
    [
        (LLAMA | {"model_type": "olmo2"}, "the architecture olmo2"),
        (LLAMA | {"hidden_act": "relu"}, "the activation relu in a llama"),
        (LLAMA | {"num_local_experts": 8}, "num_local_experts 8"),
        (LLAMA | rope(rope_type="yarn", factor=4.0), "rotary embeddings scaled by yarn"),
        (LLAMA | rope(partial_rotary_factor=0.5), "partial_rotary_factor 0.5"),
        (LLAMA | {"model_type": "qwen2"} | rope(rope_type="llama3"), "scaled by llama3"),
        (PHI3 | {"head_dim": 32}, "phi3 with 4 heads of 32"),
        (GEMMA3 | {"query_pre_attn_scalar": 16}, "query_pre_attn_scalar 16"),
        (GEMMA3 | {"tie_word_embeddings": False}, "a head of its own"),
        (GEMMA3 | {"layer_types": ["full_attention"] * 7}, "another order of layers"),
        (
            GEMMA3
            | {
                "rope_parameters": {
                    "full_attention": {"rope_type": "default", "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e5},
                }
            },
            "rotary embeddings of sliding layers",
        ),
    ],
)
def test_what_llama_cpp_computes_otherwise_is_refused(config: dict[str, Any], have: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        architecture_of(config)
    assert have in str(caught.value)
    assert caught.value.need
