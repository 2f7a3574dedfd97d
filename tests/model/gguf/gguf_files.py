"""Small GGUF files, written by llama.cpp's own package: names, order of rows and formats."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from tests.helpers import VOCAB, byte_level, llama

from headway.data.examples.tokenizer import DOCUMENT_END, TURN_END
from headway.model.load import from_config

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHAPE = {"hidden_size": 64, "intermediate_size": 96, "head_dim": 16}
PAIR = "ab"  # the only token of two bytes


def small_model(model_type: str = "llama", **config: Any) -> Any:
    """A model with random weights, biases and norms too."""
    import torch

    shape = llama(**{"tie_word_embeddings": False, "vocab_size": VOCAB + 1, **SHAPE, **config})
    model: Any = from_config(shape | {"model_type": model_type}, seed=1)
    draws = torch.Generator().manual_seed(2)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=draws) * 0.3
    return model


def tokens() -> list[str]:
    """The bytes and three special tokens, then one pair."""
    words = byte_level()
    return [*(str(words.token_of(number)) for number in range(VOCAB)), PAIR]


def write_gguf(
    path: Path,
    model: Any,
    *,
    kind: str = "F32",
    pre: str = "smollm",
    metadata: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as `convert_hf_to_gguf.py` does.

    Args:
        path: of the file.
        model: of transformers.
        kind: number format of its matrices.
        pre: the pre-tokenizer's name.
        metadata: keys to change; None leaves one out.
        tensors: tensors to change; None leaves one out.
    """
    architecture = model.config.model_type
    writer = gguf.GGUFWriter(str(path), architecture)
    for key, value in (_metadata(model.config, pre) | dict(metadata or {})).items():
        _add(writer, key, value)
    found = {name: (value, kind) for name, value in _named(model, architecture).items()}
    found |= {name: (value, "F32") for name, value in (tensors or {}).items()}
    for name, (value, format_name) in found.items():
        if value is None:
            continue
        number = gguf.GGMLQuantizationType[format_name if value.ndim > 1 else "F32"]
        writer.add_tensor(name, quantize(value.astype(np.float32), number), raw_dtype=number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _metadata(config: Any, pre: str) -> dict[str, Any]:
    words, names = config.model_type, tokens()
    special = [names.index(token) for token in (DOCUMENT_END, TURN_END)]
    return {
        f"{words}.block_count": config.num_hidden_layers,
        f"{words}.context_length": config.max_position_embeddings,
        f"{words}.embedding_length": config.hidden_size,
        f"{words}.feed_forward_length": config.intermediate_size,
        f"{words}.attention.head_count": config.num_attention_heads,
        f"{words}.attention.head_count_kv": config.num_key_value_heads,
        f"{words}.attention.key_length": config.head_dim,
        f"{words}.attention.value_length": config.head_dim,
        f"{words}.attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        f"{words}.rope.freq_base": 10000.0,
        f"{words}.rope.dimension_count": config.head_dim,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": names,
        "tokenizer.ggml.token_type": [3] * 3 + [1] * (len(names) - 3),
        "tokenizer.ggml.merges": ["a b"],
        "tokenizer.ggml.bos_token_id": special[0],
        "tokenizer.ggml.eos_token_id": special[1],
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHATML,
    }


def _add(writer: Any, key: str, value: Any) -> None:
    match value:
        case None:
            pass
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _named(model: Any, architecture: str) -> dict[str, Any]:
    """The weights under llama.cpp's names, with the rows of queries and keys in its order."""
    config = model.config
    arch = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[architecture]
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    found: dict[str, Any] = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        value = weight.float().numpy()
        heads = {
            "q_proj": config.num_attention_heads,
            "k_proj": config.num_key_value_heads,
        }.get(name.split(".")[-2])
        if heads and architecture == "llama":
            halves = value.reshape(heads, 2, len(value) // heads // 2, *value.shape[1:])
            value = halves.swapaxes(1, 2).reshape(value.shape)
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        found[theirs] = value
    return found
