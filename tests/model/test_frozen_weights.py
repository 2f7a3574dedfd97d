"""Frozen weights in their files' 16 bits compute what a model in fp32 does, bit for bit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import causal, micro_of
from torch import Tensor, nn

from headway.model.forward import Forward
from headway.model.frozen_weights import (
    _read,
    from_folder_as_stored,
    from_folder_in_4bit,
    shown_in_fp32,
)
from headway.model.load import from_folder, trainable, with_lora

MICRO = micro_of(5, 4, 11, every=1)
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "llama, tied": {"tie_word_embeddings": True},
    "gpt2": {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    "gemma3_text, tied": {"head_dim": 8, "tie_word_embeddings": True},  # scales its embeddings
    "mamba2": {  # looks at its head's number format before it calls it
        "num_heads": 4,
        "head_dim": 8,
        "expand": 2,
        "hidden_size": 16,
        "n_groups": 1,
        "state_size": 8,
        "chunk_size": 8,
        "use_cache": False,
    },
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},  # experts are stacked
}
FILES: dict[str, Callable[[Tensor], Tensor]] = {
    "bf16": lambda one: one.bfloat16(),
    "fp16": lambda one: one.half(),
    "vectors in fp32": lambda one: one.bfloat16() if one.ndim > 1 else one,
    "bf16 stored as fp32": lambda one: one.bfloat16().float(),
}


def saved(folder: Path, kind: str = "llama", files: str = "bf16") -> Path:
    model = causal(kind.split(",")[0], scale=1.0, **KINDS[kind])
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    tensors = {name: FILES[files](one).contiguous() for name, one in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    return folder


def wrapped(model: nn.Module) -> Any:
    with shown_in_fp32(model):
        model = with_lora(model, r=2, alpha=4, dropout=0.0, target_modules=("all-linear",), seed=1)
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.add_(0.1)
    return model


def both(folder: Path) -> tuple[Any, Any]:
    """The same adapters on a base in fp32, and on one as it is stored."""
    return tuple(
        wrapped(read(folder, trust_remote_code=False))
        for read in (from_folder, from_folder_as_stored)
    )  # type: ignore[return-value]


def formats(model: nn.Module) -> set[torch.dtype]:
    """Of its frozen matrices."""
    return {p.dtype for p in model.parameters() if not p.requires_grad and p.ndim > 1}


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # of Mamba, in bf16
@pytest.mark.parametrize(
    ("kind", "files"), [*((kind, "bf16") for kind in KINDS), *(("llama", one) for one in FILES)]
)
def test_results_are_those_of_fp32_until_bf16_is_settled_and_then_those_of_bf16(
    tmp_path: Path, kind: str, files: str
) -> None:
    exact, narrow = both(saved(tmp_path, kind, files))
    assert formats(narrow) == {torch.float16 if files == "fp16" else torch.bfloat16}
    assert formats(exact) == {torch.float32}
    ours, theirs = Forward(narrow), Forward(exact)
    for dtype in (None, torch.bfloat16):
        for forward in (ours, theirs):
            if dtype:
                forward.compute_in(dtype)
                forward.release_exact_weights()
        for separately in (True,) if kind == "mamba2" else (True, False):
            for forward in (ours, theirs):
                forward.run_separately(separately)
            with torch.no_grad():
                assert torch.equal(ours.losses(MICRO), theirs.losses(MICRO))
    assert formats(narrow) == formats(exact) == {torch.bfloat16}
    for forward in (ours, theirs):
        forward.loss(MICRO, 16).backward()
        forward.collect_gradients()
    for (name, p), other in zip(trainable(narrow).items(), trainable(exact).values(), strict=True):
        assert torch.equal(p, other), name
        assert p.grad is not None
        assert torch.equal(p.grad, other.grad), name


def test_no_more_than_a_layer_is_in_fp32_at_a_time(tmp_path: Path) -> None:
    _, narrow = both(saved(tmp_path))
    forward = Forward(narrow)
    base = narrow.get_base_model()
    layer = max(sum(p.numel() for p in one.parameters()) for one in base.model.layers)
    most = max(layer, base.lm_head.weight.numel())
    seen: list[int] = []

    def count(*_: object) -> None:
        wide = [p for p in narrow.parameters() if not p.requires_grad and p.ndim > 1]
        seen.append(sum(p.numel() for p in wide if p.dtype == torch.float32))

    for module in base.modules():
        module.register_forward_pre_hook(count)
    with torch.no_grad():
        forward.losses(MICRO)
    assert 0 < max(seen) <= most
    assert formats(narrow) == {torch.bfloat16}


def test_settled_for_fp32_it_trains_in_fp32(tmp_path: Path) -> None:
    exact, narrow = both(saved(tmp_path))
    ours, theirs = Forward(narrow), Forward(exact)
    ours.compute_in(torch.bfloat16)
    ours.compute_in(torch.float32)  # bf16 changed the loss
    _, untried = both(tmp_path)
    settled = Forward(untried)
    settled.compute_in(torch.float32)
    for forward in (ours, theirs, settled):
        forward.loss(MICRO, 16).backward()
    for model in (narrow, untried):
        assert formats(model) == {torch.float32}
        for p, other in zip(trainable(model).values(), trainable(exact).values(), strict=True):
            assert torch.equal(p.grad, other.grad)  # type: ignore[arg-type]


def test_nothing_is_trained_before_a_number_format_is_settled(tmp_path: Path) -> None:
    _, narrow = both(saved(tmp_path))
    forward = Forward(narrow)
    with pytest.raises(AssertionError, match="a number format must be settled to train in it"):
        forward.loss(MICRO, 16)


def test_a_layer_that_fails_is_narrow_again(tmp_path: Path) -> None:
    _, narrow = both(saved(tmp_path))
    forward = Forward(narrow)

    def fail(*_: object) -> None:
        raise ValueError

    layers = narrow.get_base_model().model.layers
    layers[1].mlp.register_forward_pre_hook(fail)
    with pytest.raises(ValueError), torch.no_grad():
        forward.losses(MICRO)
    assert formats(layers) == {torch.bfloat16}


def test_a_matrix_that_16_bits_do_not_hold_stays_in_fp32(tmp_path: Path) -> None:
    causal("llama", scale=1.0).save_pretrained(tmp_path)
    model = from_folder_as_stored(tmp_path, trust_remote_code=False)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_run_on_the_cpu_does_not_read_its_weights_from_a_file_that_may_change(
    tmp_path: Path,
) -> None:
    _, narrow = both(saved(tmp_path))
    before = [p.detach().clone() for p in narrow.parameters()]
    path = tmp_path / "model.safetensors"
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(path.stat().st_size // 2))
    assert all(torch.equal(p, one) for p, one in zip(narrow.parameters(), before, strict=True))


def test_files_are_read_in_their_own_format_whatever_the_config_says(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    assert config["dtype"] == "float32"
    assert {p.dtype for p in _read(tmp_path, trust_remote_code=False).parameters()} == {
        torch.bfloat16
    }
    exact = causal("llama", scale=1.0)
    exact.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"dtype": "bfloat16"}))
    model: Any = from_folder_in_4bit(tmp_path, trust_remote_code=False)
    assert torch.equal(model.lm_head.weight, exact.lm_head.weight)


@pytest.mark.parametrize("as_stored", [False, True])
def test_beside_codes_in_4_bits_other_matrices_are_as_stored(
    tmp_path: Path, as_stored: bool
) -> None:
    folder = saved(tmp_path, "gemma3_text, tied")
    model: Any = from_folder_in_4bit(folder, trust_remote_code=False, as_stored=as_stored)
    exact: Any = from_folder(folder, trust_remote_code=False)
    embedding = model.get_input_embeddings()
    assert embedding.weight.dtype == (torch.bfloat16 if as_stored else torch.float32)
    assert torch.equal(embedding.weight.float(), exact.get_input_embeddings().weight)
    assert torch.equal(embedding.embed_scale, exact.get_input_embeddings().embed_scale)
    assert model.model.norm.weight.dtype == torch.float32


def test_what_reading_patches_in_transformers_is_put_back(tmp_path: Path) -> None:
    from transformers import PreTrainedModel

    own = PreTrainedModel._get_dtype_plan
    saved(tmp_path)
    from_folder_as_stored(tmp_path, trust_remote_code=False)
    assert PreTrainedModel._get_dtype_plan is own
