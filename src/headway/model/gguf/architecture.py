"""GGUF architecture: a file's metadata as a config.json, and its tensors' names in transformers."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from headway.model.gguf.container import GgufFile, Value
from headway.model.gguf.layout import TensorTarget, tensor_layout
from headway.model.gguf.rope_factors import (
    LLAMA3_CONTEXT,
    LLAMA3_HIGH,
    LLAMA3_LOW,
    ROPE_FACTORS,
    llama3_factors,
)

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
ARCHITECTURES = tuple(_CLASSES)
# Of an architecture's keys: what is read here, and what says nothing about the computation.
_READ = (
    *("block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size"),
    *("attention.head_count", "attention.head_count_kv", "attention.key_length"),
    *("attention.value_length", "attention.layer_norm_rms_epsilon"),
    *("rope.dimension_count", "rope.freq_base", "rope.scaling.type", "rope.scaling.factor"),
)
_IDLE = ("rope.scaling.finetuned", "tensor_data_layout")
_NONE_OF = ("expert_count", "expert_used_count", "attention.sliding_window")


class UnsupportedGgufError(ValueError):
    """A sound file of a kind that is not converted.

    Attributes:
        need: what would be.
    """

    def __init__(self, have: str, need: str) -> None:
        super().__init__(have)
        self.need = need


def config_of(file: GgufFile, rope_factors: Sequence[float] = ()) -> dict[str, Any]:
    """The config.json of a file's model.

    Args:
        file: its metadata and tensors.
        rope_factors: the values of `ROPE_FACTORS`, if it has that tensor.

    Raises:
        UnsupportedGgufError: the architecture, or something that it asks for, is not supported.
        ValueError: a value is missing, or is none of its kind.
    """
    keys = _Keys(file.metadata)
    kind = keys.architecture
    heads = keys.whole("attention.head_count")
    head_dim = keys.whole("attention.key_length", keys.whole("embedding_length") // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if keys.whole(key, head_dim) != head_dim:
            raise UnsupportedGgufError(
                f"{key} {keys.whole(key)}, heads of {head_dim}", "heads that rotate as a whole"
            )
    config = {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "dtype": "float32",
        "vocab_size": _rows_of(file, "token_embd.weight"),
        "hidden_size": keys.whole("embedding_length"),
        "intermediate_size": keys.whole("feed_forward_length"),
        "num_hidden_layers": keys.whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": keys.whole("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": keys.whole("context_length"),
        "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_parameters": _rope(keys, rope_factors, head_dim),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "use_cache": True,
    }
    biased = "blk.0.attn_q.bias" in file.tensors
    if kind == "qwen2":
        if not biased:
            raise UnsupportedGgufError("a qwen2 without biases", "a qwen2 with them")
    else:
        config["attention_bias"] = biased
    if kind == "llama":
        config["mlp_bias"] = "blk.0.ffn_up.bias" in file.tensors
    return config


def targets_of(file: GgufFile, config: Mapping[str, Any]) -> dict[str, TensorTarget]:
    """What becomes of each tensor that has weights of the model.

    Raises:
        UnsupportedGgufError: there is one that this architecture does not have.
        ValueError: one is missing, or has another shape than the metadata says.
    """
    if config["num_hidden_layers"] > len(file.tensors):
        raise ValueError(f"{config['num_hidden_layers']:,} layers in {len(file.tensors):,} tensors")
    expected = tensor_layout(config)
    unknown = sorted(file.tensors.keys() - expected.keys() - {ROPE_FACTORS})
    if unknown:
        raise UnsupportedGgufError(
            f"{unknown[0][:80]!r}, which a {config['model_type']} has no place for",
            "the tensors of the architecture alone",
        )
    missing = sorted(expected.keys() - file.tensors.keys())
    if missing:
        raise ValueError(f"{len(missing)} tensors are missing, {missing[0]} among them")
    for name, target in expected.items():
        if file.tensors[name].shape != target.shape:
            raise ValueError(
                f"{name} of shape {list(file.tensors[name].shape)}, "
                f"its metadata says {list(target.shape)}"
            )
    return expected


class _Keys:
    """The metadata of one architecture, checked as it is read."""

    def __init__(self, metadata: Mapping[str, Value]) -> None:
        self.metadata = metadata
        name = metadata.get("general.architecture")
        if not isinstance(name, str):
            raise ValueError("no general.architecture in its metadata")
        if name not in ARCHITECTURES:
            raise UnsupportedGgufError(
                f"the architecture {name[:80]!r}", ", ".join(ARCHITECTURES[:-1]) + " or qwen3"
            )
        self.architecture = name
        if metadata.get("general.type", "model") != "model":
            raise UnsupportedGgufError(
                f"a file of the type {str(metadata['general.type'])[:80]!r}", "a whole model"
            )
        if (parts := metadata.get("split.count", 1)) != 1:
            raise UnsupportedGgufError(
                f"one of {parts} parts of a model", "one file (llama-gguf-split --merge)"
            )
        self._check_known()

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{self.architecture}.{key} {_shown(value)}, not a number above 0")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{self.architecture}.{key} {_shown(value)}, not a number")
        if not math.isfinite(value) or value <= 0:
            raise ValueError(f"{self.architecture}.{key} {value}, not a number above 0")
        return float(f"{value:.7g}")  # stored as float32: 1e-05, not 9.999999747378752e-06

    def text(self, key: str, default: str) -> str:
        return str(self.metadata.get(f"{self.architecture}.{key}", default))

    def _check_known(self) -> None:
        """Check that nothing is asked for that would be ignored here."""
        prefix = f"{self.architecture}."
        for key, value in self.metadata.items():
            name = key.removeprefix(prefix)
            if name == key or name in (*_READ, *_IDLE) or (name in _NONE_OF and not value):
                continue
            raise UnsupportedGgufError(
                f"{key[:80]} {_shown(value)}", "a model without it: it changes what is computed"
            )


def _rope(keys: _Keys, factors: Sequence[float], head_dim: int) -> dict[str, Any]:
    """The rotary embedding's base, and how its frequencies are scaled."""
    base = keys.number("rope.freq_base", 10000.0)
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": base}
    scaled = f"{keys.architecture}.rope.scaling.factor" in keys.metadata
    scaling = keys.text("rope.scaling.type", "linear" if scaled else "none")  # as in llama.cpp
    if scaling not in ("none", "linear") or (factors and scaling != "none"):
        raise UnsupportedGgufError(
            f"rotary embeddings scaled by {scaling[:80]!r}",
            "none, linear, or the factors of Llama 3",
        )
    if scaling == "linear":
        return rope | {"rope_type": "linear", "factor": keys.number("rope.scaling.factor")}
    if not factors:
        return rope
    factor = float(f"{max(factors):.6g}")
    if not _are_close(factors, llama3_factors(base, head_dim, factor)):
        raise UnsupportedGgufError(
            f"{ROPE_FACTORS} that are not those of Llama 3.1 to 3.3",
            "rotary embeddings like theirs",
        )
    return {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": factor,
        "low_freq_factor": LLAMA3_LOW,
        "high_freq_factor": LLAMA3_HIGH,
        "original_max_position_embeddings": LLAMA3_CONTEXT,
    }


def _are_close(some: Sequence[float], others: Sequence[float]) -> bool:
    pairs = zip(some, others, strict=False)
    return len(some) == len(others) and all(math.isclose(a, b, rel_tol=1e-3) for a, b in pairs)


def _rows_of(file: GgufFile, name: str) -> int:
    if name not in file.tensors:
        raise ValueError(f"no tensor {name}")
    return file.tensors[name].shape[0]


def _shown(value: object) -> str:
    return re.sub(r"[^ -~]", "?", repr(value))[:80]
