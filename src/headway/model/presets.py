"""Presets: model shapes to train from scratch (tiny 0.2M, mini 3M, small 28M, base 124M)."""

from typing import Any

# hidden size, layers, heads, width of the MLP, vocabulary of a tokenizer trained for it, context
_PRESETS = {
    "tiny": (64, 3, 4, 192, 512, 1024),
    "mini": (192, 6, 6, 512, 2048, 1024),
    "small": (448, 9, 7, 1216, 8192, 2048),
    "base": (768, 12, 12, 2048, 32768, 2048),
}
NAMES = tuple(_PRESETS)


def vocab_size(preset: str) -> int:
    """Tokens of a tokenizer that is trained on the data."""
    return _PRESETS[preset][4]


def config(preset: str, vocab: int, max_length: int, special: dict[str, int]) -> dict[str, Any]:
    """A Llama config, as plain values.

    Args:
        preset: one of `NAMES`.
        vocab: rows of the embedding.
        max_length: tokens of a row; the context is at least that long.
        special: bos_token_id, eos_token_id and pad_token_id that the tokenizer has.
    """
    hidden, layers, heads, intermediate, _, context = _PRESETS[preset]
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": hidden // heads,
        "intermediate_size": intermediate,
        "hidden_act": "silu",
        "vocab_size": vocab,
        "max_position_embeddings": max(context, max_length),
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        # transformers' default, 0.02, suits widths of 2,000 and more. At these widths it makes the
        # first logits so flat that a short run spends a third of its steps on the unigram plateau.
        "initializer_range": round(hidden**-0.5, 4),
        "tie_word_embeddings": True,
        **special,
    }
