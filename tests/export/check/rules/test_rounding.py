"""Rounding: told where a number format lost what was learned, and where it may have."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.export.folders import change, model_folder, write

from headway.base.errors import Cause
from headway.export.check.folder_facts import read_folder
from headway.export.check.rules.rounding import rounding
from headway.export.request import NOTE, SCHEMA


def found(folder: Path, base: Path) -> list[tuple[str, Cause | None]]:
    facts = read_folder(folder, read_folder(base))
    return [(finding.kind, finding.cause) for finding in rounding(facts)]


def folder_with(folder: Path, base: Path, dtype: torch.dtype, change: float) -> Path:
    """The base model with its matrices changed by so much of each number, in a number format."""
    model_folder(folder)
    tensors = load_file(base / "model.safetensors")
    moved = {
        name: (one.float() * (1 + change) if one.dim() > 1 else one.float()).to(dtype)
        for name, one in tensors.items()
    }
    save_file(moved, folder / "model.safetensors", {"format": "pt"})
    return folder


def base_in(folder: Path, dtype: torch.dtype) -> Path:
    model_folder(folder)
    file = folder / "model.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(file).items()}, file, {"format": "pt"})
    return folder


WARNED = [("warning", Cause.WEIGHTS_ROUNDED)]


@pytest.mark.parametrize(
    ("base", "own", "change", "expected"),
    [
        (torch.float32, torch.float32, 1e-3, []),
        (torch.float32, torch.bfloat16, 0.1, WARNED),
        (torch.float32, torch.float16, 0.1, WARNED),
        (torch.bfloat16, torch.float32, 1e-3, []),
        (torch.bfloat16, torch.bfloat16, 0.05, []),
        (torch.bfloat16, torch.bfloat16, 2e-4, WARNED),
        (torch.float16, torch.float16, 1e-2, []),
        (torch.bfloat16, torch.bfloat16, 0.0, []),  # the base itself: told by another rule
    ],
)
def test_x02_a_format_too_coarse_for_what_was_learned(
    tmp_path: Path, base: Any, own: Any, change: float, expected: list[Any]
) -> None:
    before = base_in(tmp_path / "base", base)
    tuned = folder_with(tmp_path / "tuned", before, own, change)
    if change == 2e-4:  # a number here and there moves by itself
        file = tuned / "model.safetensors"
        tensors = load_file(file)
        for tensor in tensors.values():
            if tensor.dim() > 1:
                tensor[0, 0] += 1
        save_file(tensors, file, {"format": "pt"})
    assert found(tuned, before) == expected


def test_x02_a_model_in_4_bits_of_one_that_was_not(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base", torch.float32)
    tuned = folder_with(tmp_path / "tuned", base, torch.float32, 0.1)
    change(tuned / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert found(tuned, base) == WARNED
    change(base / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert found(tuned, base) == []


def test_what_headway_exported_was_merged_before_it_was_rounded(tmp_path: Path) -> None:
    base = base_in(tmp_path / "base", torch.float32)
    tuned = folder_with(tmp_path / "tuned", base, torch.bfloat16, 0.1)
    assert found(tuned, base) == WARNED
    write(tuned / NOTE, {"schema": SCHEMA})
    assert found(tuned, base) == []
    (tuned / NOTE).write_bytes(b"{" * 100_000)
    assert found(tuned, base) == WARNED
