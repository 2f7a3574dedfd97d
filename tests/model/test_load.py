"""Models: the same from the same seed, whole from a folder, and adapters that are all there."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.helpers import causal, llama, save_model
from torch import nn

from headway.base.errors import Cause, MachineError, UsageError
from headway.model.load import (
    from_config,
    from_folder,
    is_adapter,
    is_out_of_memory,
    put_weights,
    reads_as_stored,
    to_device,
    trainable,
    warm_up,
    with_adapter,
    with_lora,
)

LORA: dict[str, Any] = {
    "r": 4,
    "alpha": 8,
    "dropout": 0.0,
    "target_modules": ("all-linear",),
    "seed": 3,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def without(folder: Path, *names: str) -> None:
    """Take tensors out of a folder's file."""
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if name not in names}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def test_what_a_first_load_makes_is_there_before(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: Any = importlib.import_module("transformers.conversion_mapping")
    made: list[object] = []
    monkeypatch.setattr(tables, "_checkpoint_conversion_mapping_cache", None)
    build = tables._build_checkpoint_conversion_mapping
    counted = lambda: made.append(1) or build()  # noqa: E731
    monkeypatch.setattr(tables, "_build_checkpoint_conversion_mapping", counted)
    warm_up(adapters=False)
    assert len(made) == 1
    from_folder(folder, trust_remote_code=False)
    assert len(made) == 1


# ---- whole models ------------------------------------------------------------------------------


def test_fresh_weights_are_a_function_of_the_seed() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    one, again, other = (from_config(llama(), seed) for seed in (1, 1, 2))
    assert same(one, again)
    assert not same(one, other)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.dtype == torch.float32 for p in one.parameters())


def test_a_folder_gives_its_weights_as_float32(folder: Path, tmp_path: Path) -> None:
    model: Any = from_folder(folder, trust_remote_code=False)
    model.bfloat16().save_pretrained(tmp_path / "half")
    half = from_folder(tmp_path / "half", trust_remote_code=False)
    assert all(p.dtype == torch.float32 for p in half.parameters())
    assert same(half, model.float())


def test_a_tensor_that_is_missing_is_refused_not_drawn_by_chance(folder: Path) -> None:
    without(folder, "model.layers.0.mlp.up_proj.weight", "model.norm.weight")
    with pytest.raises(UsageError) as refused:
        from_folder(folder, trust_remote_code=False)
    assert str(refused.value).splitlines() == [
        f"{folder} is missing weights of its model",
        "  have  2 tensors are in none of its files, model.layers.0.mlp.up_proj.weight among them",
        "  need  every tensor of the model in config.json",
        "  try   copy the folder again   a file may be missing",
    ]


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / "config.json").unlink(),
        lambda folder: (folder / "config.json").write_text("{}"),
        lambda folder: (folder / "config.json").write_text('{"model_type": "no such kind"}'),
    ],
    ids=["no config", "an empty config", "an unknown kind"],
)
def test_a_folder_that_does_not_load_is_refused_in_four_parts(folder: Path, harm: Any) -> None:
    harm(folder)
    with pytest.raises(UsageError, match=r"as a language model|cannot read .*config\.json"):
        from_folder(folder, trust_remote_code=False)


def test_a_tensor_that_the_model_has_no_place_for_is_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.7.mlp.up_proj.weight"] = torch.ones(2, 2)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError) as refused:
        from_folder(folder, trust_remote_code=False)
    assert refused.value.cause == Cause.WEIGHTS_UNUSED
    assert "model.layers.7.mlp.up_proj.weight" in refused.value.have


def test_memory_that_runs_out_while_loading_is_not_the_folders_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", fail)
    with pytest.raises(RuntimeError, match="allocate memory"):
        from_folder(folder, trust_remote_code=False)


def test_f57_pickled_weights_are_not_read(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="has only pickled weights, which are not loaded"):
        from_folder(folder, trust_remote_code=False)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {}),
        ("llama", {"tie_word_embeddings": True}),
        ("gpt2", {}),
        ("mixtral", {"num_local_experts": 2, "num_experts_per_tok": 1}),
    ],
)
def test_weights_go_into_a_model_of_the_same_kind(
    tmp_path: Path, kind: str, config: dict[str, Any]
) -> None:
    saved, fresh = causal(kind, seed=1, **config), causal(kind, seed=2, **config)
    saved.save_pretrained(tmp_path)
    put_weights(fresh, tmp_path)
    assert same(fresh, saved)


def test_weights_of_another_shape_are_an_error(folder: Path) -> None:
    with pytest.raises(RuntimeError):
        put_weights(causal("llama", num_hidden_layers=3), folder)


# ---- adapters ----------------------------------------------------------------------------------


def test_adapters_are_a_function_of_the_seed_and_change_nothing_yet(folder: Path) -> None:
    ids = torch.arange(9)[None]
    plain: Any = from_folder(folder, trust_remote_code=False).eval()
    before = torch.get_rng_state()
    one, again = (with_lora(from_folder(folder, trust_remote_code=False), **LORA) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(one, again)
    adapted: Any = one.eval()
    assert torch.equal(adapted(input_ids=ids).logits, plain(input_ids=ids).logits)


def test_only_adapters_are_trainable_and_all_linear_layers_have_them(folder: Path) -> None:
    model = with_lora(from_folder(folder, trust_remote_code=False), **LORA)
    names = list(trainable(model))
    assert len(names) == 2 * 7 * 2  # layers, projections, A and B
    assert all("lora_" in name for name in names)


def test_l03_a_target_that_no_module_is_called_by_is_refused(folder: Path) -> None:
    model = from_folder(folder, trust_remote_code=False)
    with pytest.raises(UsageError, match="no module of this model is named query") as refused:
        with_lora(model, **LORA | {"target_modules": ("query",)})
    assert "q_proj" in refused.value.have
    for remedy in refused.value.remedies:  # every one of them works
        target = remedy.do.split()[-1]
        assert trainable(
            with_lora(
                from_folder(folder, trust_remote_code=False), **LORA | {"target_modules": (target,)}
            )
        )


def test_gpt2s_layers_have_adapters_too() -> None:
    names = list(trainable(with_lora(causal("gpt2"), **LORA)))
    assert len(names) == 2 * 4 * 2  # layers, projections, A and B
    with pytest.raises(UsageError) as refused:
        with_lora(causal("gpt2"), **LORA | {"target_modules": ("q_proj",)})
    assert refused.value.have == "linear layers named c_attn, c_fc, c_proj, lm_head"


STATE_SPACE = {"num_heads": 4, "head_dim": 8, "n_groups": 1, "state_size": 8}


def test_layers_that_a_fused_kernel_reads_get_no_adapters() -> None:
    """In Mamba's, the kernel multiplies with the weight of out_proj itself."""
    names = trainable(with_lora(causal("mamba2", **STATE_SPACE), **LORA))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == {"in_proj"}
    with pytest.raises(UsageError, match="PEFT refuses adapters on in_proj or out_proj") as refused:
        with_lora(
            causal("mamba2", **STATE_SPACE), **LORA | {"target_modules": ("in_proj", "out_proj")}
        )
    assert "out_proj" in refused.value.have
    assert [remedy.do for remedy in refused.value.remedies] == ["--lora.target_modules all-linear"]


def test_stacked_experts_have_adapters_without_a_word_of_peft() -> None:
    """A warning would fail this test."""
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    names = trainable(with_lora(causal("mixtral", **experts), **LORA))
    assert sum(".experts." in name for name in names) == 2 * 2 * 2  # layers, tensors, A and B


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_saved_adapters_come_back_trainable(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "base"
    causal(kind).save_pretrained(folder)
    model: Any = with_lora(from_folder(folder, trust_remote_code=False), **LORA)
    for p in trainable(model).values():
        p.data.add_(0.1)
    model.save_pretrained(tmp_path / "adapters")
    assert is_adapter(tmp_path / "adapters")
    assert not is_adapter(folder)
    back = with_adapter(from_folder(folder, trust_remote_code=False), tmp_path / "adapters")
    assert same(back, model)
    assert trainable(back).keys() == trainable(model).keys()


# ---- where they go -----------------------------------------------------------------------------


def test_tied_weights_are_trained_once() -> None:
    tied = trainable(from_config(llama(tie_word_embeddings=True), 1))
    apart = trainable(from_config(llama(tie_word_embeddings=False), 1))
    assert apart.keys() - tied.keys() == {"lm_head.weight"}


def test_frozen_weights_are_not_trainable() -> None:
    model: Any = from_config(llama(), 1)
    model.model.norm.requires_grad_(False)
    assert "model.norm.weight" not in trainable(model)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(MachineError, match="cannot move the model to xpu"):
        to_device(from_config(llama(), 1), "xpu")


def test_cublas_without_memory_for_its_workspace_is_out_of_memory() -> None:
    said = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    assert is_out_of_memory(RuntimeError(said))
    assert not is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED"))


@pytest.mark.parametrize(("kind", "is_as_stored"), [("llama", True), ("mixtral", False)])
def test_experts_that_transformers_stacks_are_not_read_as_they_are_stored(
    kind: str, is_as_stored: bool
) -> None:
    assert reads_as_stored(causal(kind)) is is_as_stored
