"""Parameters, FLOPs and bytes from a plain config."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True)
class Shape:
    """The numbers of a decoder-only transformer that sizes follow from."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool

    @property
    def attention(self) -> int:
        """Weights of one layer's attention."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def linear(self) -> int:
        """Weights of all matrix products in the layers (a gated MLP has three)."""
        return self.layers * (self.attention + 3 * self.hidden * self.intermediate)

    @property
    def parameters(self) -> int:
        """All weights of a Llama-family model without biases."""
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        norms = self.hidden * (2 * self.layers + 1)
        return embeddings + self.linear + norms


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Read transformers' config.json; GPT-2's old names are understood too."""
    text = config.get("text_config")
    if isinstance(text, dict):
        config = {**config, **text}

    def first(*names: str, default: int = 0) -> int:
        return int(next((config[n] for n in names if config.get(n)), default))

    hidden = first("hidden_size", "n_embd", "d_model")
    heads = first("num_attention_heads", "n_head", default=1)
    return Shape(
        hidden=hidden,
        layers=first("num_hidden_layers", "n_layer", "num_layers"),
        heads=heads,
        kv_heads=first("num_key_value_heads", default=heads),
        head_dim=first("head_dim", default=hidden // heads),
        intermediate=first("intermediate_size", "n_inner", "ffn_dim", default=4 * hidden),
        vocab=first("vocab_size"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def context_of(config: Mapping[str, Any]) -> int:
    """The longest sequence a model was made for, in tokens; 0 when its config does not say."""
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        if config.get(name):
            return int(config[name])
    return 0


def flops_per_token(shape: Shape, sequence: float, trained_share: float = 1.0) -> float:
    """Forward and backward FLOPs of one input token.

    6 per weight of a matrix product (2 forward, 4 backward) and the causal attention's two
    products over half the sequence; the head counts for trained tokens alone.

    Source: Kaplan et al. 2020 (arXiv:2001.08361), appendix B; Chowdhery et al. 2022
    (arXiv:2204.02311), appendix B.
    """
    head = shape.vocab * shape.hidden * trained_share
    attention = shape.layers * 2 * shape.heads * shape.head_dim * sequence / 2
    return 6 * (shape.linear + head + attention)


def activation_bytes(shape: Shape, tokens: int, trained: int, value_bytes: int) -> int:
    """What a forward pass of one micro-batch keeps for its backward pass.

    Counted from what autograd saves in a Llama layer: 14 values of the hidden size (inputs of
    norms and projections, their fp32 squares, rotary halves, residuals), the heads' queries, keys
    and values three times, 5 of the MLP's width. Logits: four fp32 copies of a trained token's row
    (the head's output, its fp32 form, the log-softmax and its gradient).
    """
    heads = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    layer = 14 * shape.hidden + 3 * heads + 5 * shape.intermediate
    return shape.layers * layer * tokens * value_bytes + 4 * 4 * trained * shape.vocab


def lora_parameters(shape: Shape, r: int) -> int:
    """Trainable weights with adapters on every linear layer of a Llama-family model."""
    query = shape.hidden + shape.heads * shape.head_dim
    key = shape.hidden + shape.kv_heads * shape.head_dim
    mlp = shape.hidden + shape.intermediate
    return shape.layers * r * (2 * query + 2 * key + 3 * mlp)


def count_parameters(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """All weights in the files; tied ones are stored once."""
    return sum(prod(shape) for _, shape in tensors.values())


def embedding_rows(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], config: Mapping[str, Any]
) -> int:
    """Rows of the input embedding: ids must be smaller."""
    for name, (_, shape) in tensors.items():
        if name.endswith(("embed_tokens.weight", "wte.weight", "word_embeddings.weight")):
            return shape[0]
    return shape_of(config).vocab
