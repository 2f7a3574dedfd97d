"""Sizes: counted from a plain config as torch would count them, headers read with suspicion."""

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import VOCAB, causal, llama, micro_of, save_model

from headway.model.forward import Forward
from headway.model.load import from_config, trainable, with_lora
from headway.model.presets import NAMES, config, vocab_size
from headway.model.safetensors_index import stored_tensors
from headway.model.sizes import (
    MicroBatchSize,
    activation_bytes,
    context_of,
    count_parameters,
    counts_adapters,
    embedding_rows,
    flops_per_token,
    lora_parameters,
    shape_of,
    stored_bytes,
)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2])
def test_parameters_are_torchs(tied: bool, kv_heads: int) -> None:
    plain = llama(tie_word_embeddings=tied, num_key_value_heads=kv_heads)
    model = from_config(plain, 1)
    assert shape_of(plain).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 0.2), ("mini", 3.0), ("small", 28), ("base", 124)]
)
def test_presets_have_the_size_that_they_are_known_for(name: str, millions: float) -> None:
    shape = shape_of(config(name, vocab_size(name), 128, {}))
    assert shape.parameters / 1e6 == pytest.approx(millions, rel=0.15)
    assert name in NAMES


def test_a_preset_is_a_model_that_transformers_makes() -> None:
    plain = config("tiny", VOCAB, 2048, {"eos_token_id": 0})
    model: Any = from_config(plain, 1)
    assert sum(p.numel() for p in model.parameters()) == shape_of(plain).parameters
    assert model.config.max_position_embeddings == 2048  # at least as long as the rows


@pytest.mark.parametrize("r", [4, 16])
def test_adapters_have_the_estimated_size(r: int) -> None:
    model = with_lora(
        from_config(llama(), 1), r=r, alpha=8, dropout=0, target_modules=("all-linear",), seed=1
    )
    found = sum(p.numel() for p in trainable(model).values())
    assert lora_parameters(shape_of(llama()), r) == found


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        *((kind, {}) for kind in ("mistral", "qwen2", "qwen3", "olmo2", "smollm3", "granite")),
        *((kind, {"head_dim": 8}) for kind in ("gemma", "gemma2", "gemma3_text")),
        *((kind, {"num_local_experts": 4}) for kind in ("mixtral", "gpt_oss")),
        ("qwen3_moe", {"num_experts": 4, "moe_intermediate_size": 24}),
    ],
)
def test_adapters_of_other_kinds_are_those_that_peft_makes(
    kind: str, extra: dict[str, Any]
) -> None:
    model = causal(kind, **extra)
    config = json.loads(model.config.to_json_string(use_diff=False))
    adapted = with_lora(model, r=4, alpha=8, dropout=0.0, target_modules=("all-linear",), seed=1)
    assert counts_adapters(config)
    assert lora_parameters(shape_of(config), 4) == sum(
        p.numel() for p in trainable(adapted).values()
    )


def test_adapters_of_kinds_that_were_not_compared_are_an_estimate() -> None:
    assert not counts_adapters(llama() | {"model_type": "deepseek_v3"})
    dense = {"model_type": "qwen3_moe", "num_experts": 4}
    assert counts_adapters(llama() | dense)
    assert not counts_adapters(llama() | dense | {"mlp_only_layers": [0]})
    assert not counts_adapters(llama() | dense | {"decoder_sparse_step": 2})


def test_gpt2s_old_names_are_read() -> None:
    old = {"model_type": "gpt2", "n_embd": 32, "n_layer": 3, "n_head": 4, "vocab_size": 100}
    shape = shape_of(old | {"n_positions": 77})
    assert (shape.hidden, shape.layers, shape.heads, shape.kv_heads) == (32, 3, 4, 4)
    assert (shape.head_dim, shape.intermediate) == (8, 128)
    assert context_of(old | {"n_positions": 77}) == 77


def test_a_text_model_inside_another_is_read() -> None:
    assert shape_of({"model_type": "both", "text_config": llama()}) == shape_of(llama())


def test_a_context_that_is_not_told_is_0() -> None:
    assert context_of({"model_type": "mamba"}) == 0


def test_flops_are_six_per_weight_of_a_product() -> None:
    shape = shape_of(llama())
    weights = shape.linear + shape.vocab * shape.hidden
    assert flops_per_token(shape, sequence=0) == 6 * weights
    assert flops_per_token(shape, sequence=0, trained_share=0.5) == 6 * (
        shape.linear + shape.vocab * shape.hidden / 2
    )
    assert flops_per_token(shape, sequence=1024) > flops_per_token(shape, sequence=0)


def test_activations_grow_with_tokens_and_with_trained_ones() -> None:
    shape = shape_of(llama())
    once = activation_bytes(
        shape, MicroBatchSize(tokens=100, trained=50, document=20, value_bytes=4)
    )
    twice = MicroBatchSize(tokens=200, trained=100, document=20, value_bytes=4)
    assert activation_bytes(shape, twice) == 2 * once
    assert activation_bytes(shape, replace(twice, trained=0)) < 2 * once
    assert activation_bytes(shape, replace(twice, value_bytes=2)) < 1.5 * once
    assert activation_bytes(shape, replace(twice, checkpointed=True)) < 1.5 * once


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("document", [64, 256, 512])
def test_activations_are_what_autograd_saves(document: int, dtype: torch.dtype) -> None:
    plain = llama(hidden_size=64, intermediate_size=160, max_position_embeddings=512)
    model, micro = from_config(plain, 1), micro_of(*[document] * 4)
    forward = Forward(model)
    forward.compute_in(dtype)
    weights = {
        p.untyped_storage().data_ptr() for m in (model, forward.model) for p in m.parameters()
    }
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward.loss(micro, len(micro.targets_M))
    assert loss.requires_grad  # while it is there, so is what was saved
    work = MicroBatchSize(
        tokens=4 * document, trained=0, document=document, value_bytes=dtype.itemsize
    )
    kept = sum(size for at, size in saved.items() if at not in weights)
    assert activation_bytes(shape_of(plain), work) == pytest.approx(kept, rel=0.05)


# ---- files -------------------------------------------------------------------------------------


def test_headers_tell_what_the_files_hold(tmp_path: Path) -> None:
    folder = save_model(tmp_path)
    tensors, plain = stored_tensors(folder), json.loads((folder / "config.json").read_text())
    assert count_parameters(tensors) == shape_of(plain).parameters
    assert tensors["model.norm.weight"] == ("F32", (16,))
    assert embedding_rows(tensors, plain) == VOCAB
    assert stored_bytes(tensors) == 4
    in_bf16 = {
        name: ("BF16" if len(shape) > 1 else kind, shape) for name, (kind, shape) in tensors.items()
    }
    assert stored_bytes(in_bf16) == 2


def test_the_embedding_may_have_more_rows_than_the_config_says(tmp_path: Path) -> None:
    model = causal("gpt2")
    model.save_pretrained(tmp_path)
    assert embedding_rows(stored_tensors(tmp_path), {"vocab_size": 7}) == VOCAB
    assert embedding_rows({}, {"vocab_size": 7}) == 7


def header(text: bytes, *, length: int | None = None, body: int = 0) -> bytes:
    told = len(text) if length is None else length
    return struct.pack("<Q", told) + text + bytes(body)


@pytest.mark.parametrize(
    "file",
    [
        b"",
        b"\x01\x02",
        header(b"{}", length=2**63),
        header(b"{}", length=100),
        header(b"not json"),
        header(b"[" * 100_000),
        header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', body=4),
        header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', body=12),
        header(b"[]"),
        header(b'{"a": 3}'),
        header(b'{"a": {"dtype": "F32"}}'),
        header(b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": "x"}}'),
    ],
    ids=range(12),
)
def test_f58_a_hostile_header_is_refused(tmp_path: Path, file: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(file)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        stored_tensors(tmp_path)


def test_heads_may_be_wider_than_their_share_of_the_model() -> None:
    wide = shape_of(llama(head_dim=32))
    assert wide.attention == 16 * 32 * (2 * 2 + 2 * 1)
    model = from_config(llama(head_dim=32), 1)
    assert wide.parameters == sum(p.numel() for p in model.parameters())
