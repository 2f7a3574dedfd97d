"""Presets are Llama configs whose sizes are as their caption says."""

import pytest

from headway.model.presets import NAMES, config, vocab_size
from headway.model.sizes import shape_of

MILLIONS = {"tiny": 0.2, "mini": 3, "small": 28, "base": 124}


@pytest.mark.parametrize("preset", NAMES)
def test_a_preset_has_the_parameters_its_caption_says(preset: str) -> None:
    shape = shape_of(config(preset, vocab_size(preset), 256, {}))
    assert shape.parameters / 1e6 == pytest.approx(MILLIONS[preset], rel=0.15)
    assert shape.heads * shape.head_dim == shape.hidden


def test_the_context_is_never_shorter_than_a_row() -> None:
    made = config("tiny", 512, 5000, {"eos_token_id": 3})
    assert made["max_position_embeddings"] == 5000
    assert made["eos_token_id"] == 3
    assert config("tiny", 512, 10, {})["max_position_embeddings"] == 1024
