"""Llama 3's rotary factors are those of transformers."""

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from headway.model.gguf.rope_factors import llama3_factors


@pytest.mark.parametrize(
    ("base", "factor", "low", "high", "context"),
    [(5e5, 8.0, 1.0, 4.0, 8192), (1e4, 32.0, 2.0, 16.0, 2048)],
)
def test_the_factors(base: float, factor: float, low: float, high: float, context: int) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }
    config = LlamaConfig(hidden_size=64, num_attention_heads=1, head_dim=64, rope_parameters=rope)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / base ** (torch.arange(0, 64, 2) / 64)
    found = llama3_factors(base, 64, factor, low=low, high=high, context=context)
    assert (plain / scaled).tolist() == pytest.approx(found, rel=1e-5)
