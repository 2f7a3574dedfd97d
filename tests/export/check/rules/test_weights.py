"""Weights: what is a mask, a buffer or kept in fp32 on purpose is no finding."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.export.folders import change, model_folder, weights

from headway.base.errors import Cause
from headway.export.check.folder_facts import read_folder
from headway.export.check.rules.weights import weights as rule


def found(folder: Path) -> list[tuple[str, Cause | None]]:
    return [(finding.kind, finding.cause) for finding in rule(read_folder(folder))]


def saved(folder: Path, tensors: dict[str, Any]) -> Path:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_mask_in_a_buffer_may_be_infinite(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    mask = {"model.layers.0.attn.masked_bias": np.full((4, 4), -np.inf, np.float32)}
    assert found(saved(folder, weights() | mask)) == []


@pytest.mark.parametrize(("in_config", "is_told"), [("float16", False), ("float32", True)])
def test_a_few_matrices_in_fp32_are_on_purpose(
    tmp_path: Path, in_config: str, *, is_told: bool
) -> None:
    folder = model_folder(tmp_path / "model", num_hidden_layers=2)
    change(folder / "config.json", dtype=in_config)
    half = {name: one.astype(np.float16) for name, one in weights().items()}
    half["model.norm.weight"] = half["model.norm.weight"].astype(np.float32)
    half["model.layers.0.self_attn.q_proj.weight"] = np.zeros((16, 16), np.float32)
    wanted = [("refused", Cause.WEIGHTS_ROUNDED)] if is_told else []
    assert found(saved(folder, half)) == wanted


def test_matrices_half_in_fp32_were_merged_in_part(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    mixed = {
        n: one.astype(np.float16) if "q_proj" not in n else one for n, one in weights().items()
    }
    assert found(saved(folder, mixed)) == [("refused", Cause.WEIGHTS_ROUNDED)]


def test_the_older_name_for_the_number_format_counts_too(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    change(folder / "config.json", dtype=None, torch_dtype="torch.bfloat16")
    assert found(folder) == [("refused", Cause.WEIGHTS_ROUNDED)]
    change(folder / "config.json", torch_dtype="auto")
    assert found(folder) == []
