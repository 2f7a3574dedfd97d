"""GGUF architecture of a model: its config.json as metadata of llama.cpp."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from headway.base.errors import Finding
from headway.model.gguf.rope_factors import LLAMA3_CONTEXT, ROPE_FACTORS, llama3_factors

ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
    "phi3": "phi3",
}
_ACTIVATIONS = {"gemma3": ("gelu_pytorch_tanh",)}  # all others: silu
_GEMMA3_PERIOD = 6  # every so many layers, attention sees everything
_GEMMA3_SLIDING_BASE = 10000.0  # of rotary frequencies in the other layers
_GEMMA3_27B_LAYERS = 62  # scales queries otherwise
# What changes the computation and is not in these architectures of llama.cpp, unless it is empty.
_NONE_OF = (
    *("num_local_experts", "num_experts", "attn_logit_softcapping", "final_logit_softcapping"),
    *("quantization_config", "use_bidirectional_attention"),
)

Metadata = dict[str, bool | int | float | str]


class UnsupportedModelError(ValueError):
    """A model that these architectures of llama.cpp do not compute.

    Attributes:
        need: what they do.
    """

    def __init__(self, have: str, need: str) -> None:
        super().__init__(have)
        self.need = need


@dataclass(frozen=True)
class Architecture:
    """A model's shape in llama.cpp's words.

    Attributes:
        name: of the architecture.
        config: of transformers, complete: with `head_dim` and `num_key_value_heads`.
        metadata: keys and values; whole numbers are written as uint32, others as float32.
        tensors: values that are in the file beside the weights.
        findings: what a person should know.
    """

    name: str
    config: Mapping[str, Any]
    metadata: Metadata
    tensors: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    findings: tuple[Finding, ...] = ()


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a model.

    Args:
        config: as transformers completes it: with every default.

    Raises:
        UnsupportedModelError: llama.cpp computes something else, or has no such architecture.
    """
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise UnsupportedModelError(f"the architecture {kind}", ", ".join(ARCHITECTURES))
    name = ARCHITECTURES[kind]
    _check(config, name)
    heads = config["num_attention_heads"]
    whole = {
        **config,
        "head_dim": config.get("head_dim") or config["hidden_size"] // heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
    }
    if name == "phi3" and whole["head_dim"] * heads != whole["hidden_size"]:
        raise UnsupportedModelError(
            f"phi3 with {heads} heads of {whole['head_dim']}", "heads that add up to hidden_size"
        )
    context, findings = _context(whole, name)
    rope, tensors = _rope(whole, name)
    metadata: Metadata = {
        "block_count": whole["num_hidden_layers"],
        "context_length": context,
        "embedding_length": whole["hidden_size"],
        "feed_forward_length": whole["intermediate_size"],
        "vocab_size": whole["vocab_size"],
        "attention.head_count": heads,
        "attention.head_count_kv": whole["num_key_value_heads"],
        "attention.key_length": whole["head_dim"],
        "attention.value_length": whole["head_dim"],
        "attention.layer_norm_rms_epsilon": float(whole["rms_norm_eps"]),
        **rope,
    }
    if name == "gemma3":
        metadata["attention.sliding_window"] = whole["sliding_window"]
    prefixed = {f"{name}.{key}": value for key, value in metadata.items()}
    return Architecture(name, whole, prefixed, tensors, findings)


def _check(config: Mapping[str, Any], name: str) -> None:
    activation = config.get("hidden_activation") or config.get("hidden_act")
    known = _ACTIVATIONS.get(name, ("silu",))
    if activation not in known:
        raise UnsupportedModelError(f"the activation {activation} in a {name}", " or ".join(known))
    for key in _NONE_OF:
        if config.get(key):
            raise UnsupportedModelError(f"{key} {config[key]}", f"a {name} without it")
    if name == "gemma3":
        _check_gemma3(config)


def _check_gemma3(config: Mapping[str, Any]) -> None:
    scale, head_dim = config["query_pre_attn_scalar"], config["head_dim"]
    layers = config["num_hidden_layers"]
    if layers == _GEMMA3_27B_LAYERS:
        head_dim = config["hidden_size"] // config["num_attention_heads"]
    if scale != head_dim:
        raise UnsupportedModelError(f"query_pre_attn_scalar {scale}", f"{head_dim}, as in Gemma 3")
    expected = [
        "full_attention" if (layer + 1) % _GEMMA3_PERIOD == 0 else "sliding_attention"
        for layer in range(layers)
    ]
    if list(config["layer_types"]) != expected:
        raise UnsupportedModelError(
            "another order of layers that see everything",
            f"every {_GEMMA3_PERIOD}th, as in Gemma 3",
        )
    if not config.get("tie_word_embeddings", True):
        raise UnsupportedModelError("a head of its own", "one that is tied to the embedding")


def _context(config: Mapping[str, Any], name: str) -> tuple[int, tuple[Finding, ...]]:
    """The longest text that llama.cpp computes as transformers does, in tokens."""
    context: int = config["max_position_embeddings"]
    window: int = config.get("sliding_window") or context
    if window >= context or name == "gemma3" or not config.get("use_sliding_window", True):
        return context, ()
    return window, (
        Finding(
            "adjusted",
            f"context of the GGUF file: {window:,} tokens",
            have=f"{context:,} tokens, seen through a window of {window:,}",
            need=f"llama.cpp's {name} has no window; within {window:,} tokens there is none",
        ),
    )


def _rope(config: Mapping[str, Any], name: str) -> tuple[Metadata, dict[str, Sequence[float]]]:
    """The rotary embedding: metadata, and the factors that are tensors."""
    found: Mapping[str, Any] = config["rope_parameters"]
    if name == "gemma3":
        sliding = found["sliding_attention"]
        if sliding.get("rope_type") != "default" or sliding["rope_theta"] != _GEMMA3_SLIDING_BASE:
            raise UnsupportedModelError(
                f"rotary embeddings of sliding layers: {dict(sliding)}",
                f"the base {_GEMMA3_SLIDING_BASE:g}, not scaled",
            )
        found = found["full_attention"]
    base, kind = float(found["rope_theta"]), found.get("rope_type", "default")
    dimensions = int(config["head_dim"] * found.get("partial_rotary_factor", 1.0))
    if dimensions != config["head_dim"] and name != "phi3":
        raise UnsupportedModelError(
            f"partial_rotary_factor {found['partial_rotary_factor']}",
            "heads that rotate as a whole",
        )
    metadata: Metadata = {"rope.freq_base": base, "rope.dimension_count": dimensions}
    match kind:
        case "default":
            return metadata, {}
        case "linear":
            scaling: Metadata = {"rope.scaling.type": "linear"}
            return metadata | scaling | {"rope.scaling.factor": float(found["factor"])}, {}
        case "llama3" if name == "llama":
            factors = llama3_factors(
                base,
                dimensions,
                found["factor"],
                low=found["low_freq_factor"],
                high=found["high_freq_factor"],
                context=found.get("original_max_position_embeddings", LLAMA3_CONTEXT),
            )
            return metadata, {ROPE_FACTORS: factors}
        case "longrope" if name == "phi3":
            return _long_rope(metadata, found, config)
        case _:
            raise UnsupportedModelError(
                f"rotary embeddings scaled by {kind}",
                {"llama": "none, linear or llama3", "phi3": "none or longrope"}.get(
                    name, "none or linear"
                ),
            )


def _long_rope(
    metadata: Metadata, found: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[Metadata, dict[str, Sequence[float]]]:
    """Phi-3's factors: one list for short texts, one for long ones."""
    original = found.get("original_max_position_embeddings") or config["max_position_embeddings"]
    scale = config["max_position_embeddings"] / original
    factor = found.get("attention_factor")
    if factor is None:
        factor = math.sqrt(1 + math.log(scale) / math.log(original)) if scale > 1 else 1.0
    scaling: Metadata = {
        "rope.scaling.original_context_length": original,
        "rope.scaling.attn_factor": float(factor),
    }
    return metadata | scaling, {
        "rope_factors_long.weight": found["long_factor"],
        "rope_factors_short.weight": found["short_factor"],
    }
