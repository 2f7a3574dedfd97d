"""Tensor layout of GGUF files: names in llama.cpp and in transformers, shapes, order of rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TOP = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
# Where an architecture has another module for a name of llama.cpp.
_OTHERS = {
    "gemma3": {
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "pre_feedforward_layernorm",
        "post_ffw_norm": "post_feedforward_layernorm",
    },
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
}
_HEAD_NORMS = ("qwen3", "gemma3")  # queries and keys are normalized
_NORM_PLUS_ONE = ("gemma3",)  # multiplies by 1 + weight; llama.cpp has that sum in the file


@dataclass(frozen=True)
class TensorTarget:
    """What becomes of a tensor.

    Attributes:
        name: in transformers.
        shape: that it must have.
        heads: its rows are pairs of rotary halves of so many heads, interleaved; 0 if they are not.
        plus: llama.cpp's values are those of transformers plus this.
    """

    name: str
    shape: tuple[int, ...]
    heads: int = 0
    plus: float = 0.0


def tensor_layout(config: Mapping[str, Any], kind: str = "") -> dict[str, TensorTarget]:
    """Every tensor of a model, by its name in llama.cpp.

    Args:
        config: transformers' config.json, with `head_dim` and `num_key_value_heads`.
        kind: llama.cpp's architecture, if it is not the config's `model_type`.
    """
    kind = kind or config["model_type"]
    names = _LAYER | _OTHERS.get(kind, {})
    plus = 1.0 if kind in _NORM_PLUS_ONE else 0.0
    biased = _biased(config, kind)
    shapes = _layer_shapes(config, kind)
    top = {
        "token_embd": (config["vocab_size"], config["hidden_size"]),
        "output_norm": (config["hidden_size"],),
    }
    if not config["tie_word_embeddings"]:
        top["output"] = top["token_embd"]
    layout = {
        f"{name}.weight": TensorTarget(
            f"{_TOP[name]}.weight", shape, plus=plus if len(shape) == 1 else 0.0
        )
        for name, shape in top.items()
    }
    for layer in range(config["num_hidden_layers"]):
        there, here = f"model.layers.{layer}", f"blk.{layer}"
        for name, (shape, heads) in shapes.items():
            full = f"{there}.{names[name]}"
            added = plus if len(shape) == 1 else 0.0
            layout[f"{here}.{name}.weight"] = TensorTarget(f"{full}.weight", shape, heads, added)
            if name in biased:
                layout[f"{here}.{name}.bias"] = TensorTarget(f"{full}.bias", shape[:1], heads)
    return layout


def _layer_shapes(config: Mapping[str, Any], kind: str) -> dict[str, tuple[tuple[int, ...], int]]:
    """Shape of each weight in a layer, and the heads whose halves are interleaved."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    query, keys = (num * config["head_dim"] for num in (heads, kv_heads))
    rotated = (heads, kv_heads) if kind == "llama" else (0, 0)
    shapes: dict[str, tuple[tuple[int, ...], int]] = {"attn_norm": ((hidden,), 0)}
    if kind == "phi3":
        shapes["attn_qkv"] = ((query + 2 * keys, hidden), 0)
    else:
        shapes["attn_q"] = ((query, hidden), rotated[0])
        shapes["attn_k"] = ((keys, hidden), rotated[1])
        shapes["attn_v"] = ((keys, hidden), 0)
    shapes["attn_output"] = ((hidden, query), 0)
    if kind in _HEAD_NORMS:
        shapes |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), ((config["head_dim"],), 0))
    around = ("post_attention_norm", "post_ffw_norm") if kind == "gemma3" else ()
    shapes |= dict.fromkeys(("ffn_norm", *around), ((hidden,), 0))
    if kind == "phi3":
        shapes["ffn_up"] = ((2 * inner, hidden), 0)
    else:
        shapes["ffn_gate"] = shapes["ffn_up"] = ((inner, hidden), 0)
    shapes["ffn_down"] = ((hidden, inner), 0)
    return shapes


def _biased(config: Mapping[str, Any], kind: str) -> tuple[str, ...]:
    """The weights of a layer that have a bias."""
    biased = ("attn_q", "attn_k", "attn_v") if kind == "qwen2" else ()
    if config.get("attention_bias"):
        biased += ("attn_q", "attn_k", "attn_v", "attn_output")
    if config.get("mlp_bias"):
        biased += ("ffn_gate", "ffn_up", "ffn_down")
    return biased
