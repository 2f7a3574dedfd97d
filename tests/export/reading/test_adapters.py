"""Adapters are put on their base with every tensor of their file, or not at all."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.folders import adapter_folder, change, model_folder
from tests.export.peft_models import KINDS, adapted, base_folder

from headway.base.errors import Cause, UsageError
from headway.export.reading.adapters import are_plain_lora, put_adapters, read_kind
from headway.model.load import from_folder

FILE = "adapter_model.safetensors"
LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


def on_base(base: Path, adapters: Path) -> Any:
    return put_adapters(from_folder(base, trust_remote_code=False), adapters)


def edit(adapters: Path, **tensors: torch.Tensor | None) -> None:
    file = adapters / FILE
    found: dict[str, Any] = {**load_file(file), **tensors}
    save_file({name: one for name, one in found.items() if one is not None}, file)


@pytest.mark.parametrize("kind", ["plain", "DoRA", "a head of their own"])
def test_plain_lora_is_known_by_its_tensors(tmp_path: Path, kind: str) -> None:
    base = base_folder(tmp_path / "base")
    adapters = adapted(base, tmp_path / "adapter", **KINDS[kind])
    assert are_plain_lora(adapters) == (kind == "plain")


@pytest.mark.parametrize(
    "changes",
    [{"init_lora_weights": "pissa"}, {"target_parameters": ["experts"]}, {"peft_type": "LOHA"}],
)
def test_what_changes_the_base_itself_is_not_plain(tmp_path: Path, changes: dict[str, Any]) -> None:
    adapters = adapter_folder(tmp_path / "adapter", model_folder(tmp_path / "base"))
    assert are_plain_lora(adapters)
    change(adapters / "adapter_config.json", **changes)
    assert not are_plain_lora(adapters)


def test_x03_a_tensor_that_is_missing_would_be_a_fresh_adapter(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapter", base)
    assert on_base(base, adapters) is not None
    edit(adapters, **{f"{LAYER}.lora_B.weight": None})
    with pytest.raises(UsageError) as refused:
        on_base(base, adapters)
    assert refused.value.cause is Cause.WEIGHTS_MISSING


def test_x03_a_tensor_without_a_layer_would_be_left_out(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapter", base)
    other = LAYER.replace("q_proj", "z_proj")
    edit(adapters, **{f"{other}.lora_A.weight": torch.zeros(2, 16)})
    with pytest.raises(UsageError) as refused:
        on_base(base, adapters)
    assert refused.value.cause is Cause.WEIGHTS_UNUSED


def test_adapters_of_a_model_of_another_width_are_refused(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base", hidden_size=32)
    adapters = adapter_folder(tmp_path / "adapter", base)
    with pytest.raises(UsageError) as refused:
        on_base(base, adapters)
    assert refused.value.cause is Cause.MODEL_INVALID


def test_l09_an_embedding_with_more_rows_resizes_the_model(tmp_path: Path) -> None:
    base = model_folder(tmp_path / "base")
    adapters = adapter_folder(tmp_path / "adapter", base)
    rows = torch.randn(264, 16)
    edit(adapters, **{"base_model.model.model.embed_tokens.weight": rows})
    model = on_base(base, adapters)
    assert torch.equal(model.get_input_embeddings().weight, rows)


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"])
def test_trained_prompts_are_no_weights(tmp_path: Path, kind: str) -> None:
    adapters = adapter_folder(tmp_path / "adapter", tmp_path)
    assert read_kind(adapters) == "LORA"
    change(adapters / "adapter_config.json", peft_type=kind)
    with pytest.raises(UsageError) as refused:
        read_kind(adapters)
    assert refused.value.cause is Cause.MODEL_UNSUPPORTED
