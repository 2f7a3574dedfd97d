"""Model sizes: parameters, FLOPs and bytes from a plain config."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

LOGITS_BYTES = 64 << 20  # of fp32 logits that exist at one time
CACHED_BYTES = 2 << 20  # of fp32 logits that stay in a core's cache between two passes
# Bytes of a weight in NF4: two codes in a byte, and for each block of 64 a scale in a byte, of
# which each 256 share one in fp32 (Dettmers et al. 2023, arXiv:2305.14314).
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
SHORT = 256  # tokens; attention weights of documents up to this length are kept for backward
# What model families call their sizes, and the longest sequence they support.
SIZE_NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "vocab": ("vocab_size",),
}
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")


@dataclass(frozen=True)
class ModelShape:
    """The dimensions of a decoder-only transformer."""

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
    def largest_weight(self) -> int:
        """Weights of the largest matrix in the layers."""
        return self.hidden * max(self.intermediate, self.heads * self.head_dim)

    @property
    def parameters(self) -> int:
        """All weights of a Llama-family model without biases."""
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        norms = self.hidden * (2 * self.layers + 1)
        return embeddings + self.linear + norms


def shape_of(config: Mapping[str, Any]) -> ModelShape:
    """The shape in a transformers config.json; also reads GPT-2's older names."""
    text = config.get("text_config")
    if isinstance(text, dict):
        config = {**config, **text}

    def first(size: str, default: int = 0) -> int:
        value = next((config[n] for n in SIZE_NAMES[size] if config.get(n)), default)
        return int(max(value) if isinstance(value, list) else value)  # a list: one per layer

    hidden = first("hidden")
    heads = first("heads", default=1)
    return ModelShape(
        hidden=hidden,
        layers=first("layers"),
        heads=heads,
        kv_heads=first("kv_heads", default=heads),
        head_dim=first("head_dim", default=hidden // heads),
        intermediate=first("intermediate", default=4 * hidden),
        vocab=first("vocab"),
        tied=bool(config.get("tie_word_embeddings", False)),
    )


def context_of(config: Mapping[str, Any]) -> int:
    """The longest sequence the model supports, in tokens; 0 if its config does not say."""
    for name in CONTEXT_NAMES:
        if config.get(name):
            return int(config[name])
    return 0


def flops_per_token(shape: ModelShape, sequence: float, trained_share: float = 1.0) -> float:
    """Forward and backward FLOPs of one input token.

    6 per weight of a matrix product (2 forward, 4 backward), plus causal attention's two products
    over half the sequence. The head counts for trained tokens only.

    Source: Kaplan et al. 2020 (arXiv:2001.08361), appendix B; Chowdhery et al. 2022
    (arXiv:2204.02311), appendix B.
    """
    head = shape.vocab * shape.hidden * trained_share
    attention = shape.layers * 2 * shape.heads * shape.head_dim * sequence / 2
    return 6 * (shape.linear + head + attention)


def square_weight(shape: ModelShape) -> float:
    """Cost of a token's attention per token of its document, as a share of its other work."""
    attention = shape.layers * shape.heads * shape.head_dim
    return attention / (shape.linear + shape.vocab * shape.hidden)


@dataclass(frozen=True)
class MicroBatchSize:
    """A micro-batch's numbers that determine its memory.

    Attributes:
        tokens: in the micro-batch.
        trained: tokens that are targets.
        document: tokens of each document.
        value_bytes: of the number format it is computed in.
        frozen: the model's weights are frozen, and adapters are trained.
        checkpointed: activation checkpointing: layers are recomputed in the backward pass.
        flash: attention keeps no weights, and keys and values once for all heads that share them.
        in_4bit: frozen weights are dequantized one at a time.
    """

    tokens: int
    trained: int
    document: int
    value_bytes: int
    frozen: bool = False
    checkpointed: bool = False
    flash: bool = False
    in_4bit: bool = False


def activation_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """Bytes that a micro-batch's forward pass saves for its backward pass.

    Counted from what autograd saves for a Llama; a test counts again. Outside the layers: ids,
    positions and targets, rotary angles, the last norm, and the head's input with its gradient.
    """
    per_layer = _layer_bytes(shape, work)
    value, hidden = work.value_bytes, shape.hidden
    layers = shape.layers * per_layer
    if work.checkpointed:
        layers = shape.layers * value * hidden + per_layer
    outside = 32 + value * shape.head_dim + _norm_bytes(shape, work)
    return work.tokens * (layers + outside) + 2 * work.trained * value * hidden


def transient_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """Short-lived bytes on top of that: the loss's logits, or one layer's gradients."""
    value = work.value_bytes
    rows = min(work.trained, max(16, LOGITS_BYTES // (4 * shape.vocab)))
    head = 0 if work.frozen else shape.vocab * shape.hidden
    added = rows < work.trained  # the head's gradient is summed over chunks, in fp32
    # The head's output, which becomes its gradient; its log-softmax is an fp32 copy.
    logits = rows * shape.vocab * value
    # Then the product that gives the head's gradient.
    used = head * value + (head * (8 - value) if added else 0)
    loss = logits + max(2 * CACHED_BYTES, used) + (4 * head if added else 0)
    layer = work.tokens * (4 * shape.intermediate * value + 4 * shape.hidden * 4)
    if work.in_4bit:
        layer += round(shape.largest_weight * (value + 4 / 64))
    return max(loss, layer + head * (4 if added else value))


def _layer_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """Per token: two norms, their outputs, attention, and four values of the MLP's width."""
    heads = shape.heads * shape.head_dim
    short = work.document <= SHORT and not work.flash
    weights = shape.heads * (work.document * work.value_bytes if short else 4)
    attention = 4 * heads
    if work.flash:
        attention = 2 * heads + 2 * shape.kv_heads * shape.head_dim
    values = 2 * shape.hidden + attention + 4 * shape.intermediate
    return work.value_bytes * values + weights + 2 * _norm_bytes(shape, work)


def _norm_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """Per token: the input in fp32 and its root; if trained, also the normalized input."""
    return 4 * shape.hidden * (1 if work.frozen else 2) + 4


def lora_parameters(shape: ModelShape, r: int) -> int:
    """Trainable weights of adapters on every linear layer of a Llama-family model."""
    query = shape.hidden + shape.heads * shape.head_dim
    key = shape.hidden + shape.kv_heads * shape.head_dim
    mlp = shape.hidden + shape.intermediate
    return shape.layers * r * (2 * query + 2 * key + 3 * mlp)


def count_parameters(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """Number of weights in the files; tied ones are stored once."""
    return sum(prod(shape) for _, shape in tensors.values())


def stored_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> int:
    """Bytes of most weights in the files: 4, or 2 for those in 16 bits or fewer."""
    narrow = sum(prod(shape) for kind, shape in tensors.values() if kind not in ("F32", "F64"))
    return 2 if 2 * narrow > count_parameters(tensors) else 4


def embedding_rows(
    tensors: Mapping[str, tuple[str, tuple[int, ...]]], config: Mapping[str, Any]
) -> int:
    """Rows of the input embedding; token ids must be smaller."""
    embedding = embedding_shape(tensors)
    return embedding[0] if embedding else shape_of(config).vocab


def embedding_shape(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> tuple[int, ...]:
    """(rows, width) of the input embedding; () if none of the tensors has its name."""
    shapes = (shape for name, (_, shape) in tensors.items() if name.endswith(_EMBEDDINGS))
    return next(shapes, ())
