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
_NUM_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
# Kinds whose layers have a router and stacked experts; PEFT adapts them all, or attention alone.
_ADAPTED_EXPERTS, _FROZEN_EXPERTS = ("mixtral", "qwen3_moe"), ("gpt_oss",)
# Other kinds whose linear layers are a Llama's.
_LIKE_LLAMA = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"),
    *("olmo2", "smollm3", "granite"),
)
_NORM_VALUES = 4  # fp32 values of the model's width, in the backward pass of a norm
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
    experts: int = 0  # of each layer
    expert_intermediate: int = 0
    has_frozen_experts: bool = False  # adapters leave them out

    @property
    def attention(self) -> int:
        """Weights of one layer's attention."""
        return self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)

    @property
    def linear(self) -> int:
        """Weights of all matrix products in the layers (a gated MLP has three)."""
        return self.layers * (self.attention + 3 * self.hidden * self.intermediate)

    @property
    def quantizable(self) -> int:
        """Weights that can be put into 4 bits: of linear layers, which stacked experts are not."""
        return self.layers * self.attention if self.experts else self.linear

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
        experts=next((int(config[one]) for one in _NUM_EXPERTS if config.get(one)), 0),
        expert_intermediate=int(config.get("moe_intermediate_size") or first("intermediate")),
        has_frozen_experts=config.get("model_type") in _FROZEN_EXPERTS,
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
    outside = 32 + work.value_bytes * shape.head_dim + _norm_bytes(shape, work)
    head_input = 2 * work.trained * work.value_bytes * shape.hidden
    return _saved_bytes(shape, work) + work.tokens * outside + head_input


def peak_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """The most bytes of a micro-batch's own tensors.

    At the loss, whose logits come on top of what is saved; then in the backward pass of the last
    norm; or in that of the last layer, when nothing outside the layers is left but a gradient.
    """
    saved, value = activation_bytes(shape, work), work.value_bytes
    head = 0 if work.frozen else shape.vocab * shape.hidden
    rows = min(work.trained, max(16, LOGITS_BYTES // (4 * shape.vocab)))
    added = rows < work.trained  # the head's gradient is summed over chunks, in fp32
    # The head's output, which becomes its gradient; its log-softmax has fp32 copies.
    logits = rows * shape.vocab * value
    # Then the product that gives the head's gradient.
    used = head * value + (head * (8 - value) if added else 0)
    loss = saved + logits + max(3 * CACHED_BYTES, used) + (4 * head if added else 0)
    norm = saved + work.tokens * _NORM_VALUES * 4 * shape.hidden
    layer = _saved_bytes(shape, work) + backward_bytes(shape, work)
    return max(loss, max(norm, layer) + head * (4 if added else value))


def backward_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """Bytes of a layer's backward pass, beside what is saved: gradients and what is recomputed.

    Three gradients of the MLP's width, when one saved value is gone; or the first one, beside a
    weight that is dequantized for its product.
    """
    value, wide = work.value_bytes, work.tokens * work.value_bytes * shape.intermediate
    dense = round(shape.largest_weight * (value + 4 / 64)) if work.in_4bit else 0
    again = work.tokens * _layer_bytes(shape, work) if work.checkpointed else 0
    return again + max(2 * wide, wide + dense) + 2 * work.tokens * value * shape.hidden


def _saved_bytes(shape: ModelShape, work: MicroBatchSize) -> int:
    """In the layers; with activation checkpointing, each layer's input alone."""
    input_bytes = work.value_bytes * shape.hidden
    each = input_bytes if work.checkpointed else _layer_bytes(shape, work)
    return work.tokens * shape.layers * each


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
    """Trainable weights of adapters on every linear layer, as PEFT makes them.

    Each expert has an adapter of rank r for its down projection, and one of twice that for gate and
    up together; the router has one, too.
    """
    width, inside = shape.hidden, shape.expert_intermediate
    query = width + shape.heads * shape.head_dim
    key = width + shape.kv_heads * shape.head_dim
    mlp = 3 * (width + shape.intermediate)
    if shape.experts:
        mlp = width + shape.experts * (1 + 2 * (width + 2 * inside) + inside + width)
    if shape.has_frozen_experts:
        mlp = 0
    return shape.layers * r * (2 * query + 2 * key + mlp)


def counts_adapters(config: Mapping[str, Any]) -> bool:
    """Whether `lora_parameters` is what PEFT makes of a model of this kind; else an estimate."""
    kind = config.get("model_type")
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        return False  # only some layers have experts
    return kind in (*_LIKE_LLAMA, *_ADAPTED_EXPERTS, *_FROZEN_EXPERTS)


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
