"""Initial weights: a function of the plan, made twice with the same bits."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training.jobs import adapted, planned

from headway.base.errors import Cause, UsageError
from headway.model.load import from_folder
from headway.training.weights.initial_weights import load_folder, starting_model


@pytest.mark.parametrize("kind", ["from nothing", "adapters"])
def test_they_are_made_twice_with_the_same_bits(here: Path, kind: str) -> None:
    plan = adapted(here) if kind == "adapters" else planned(here)
    one, two = starting_model(plan).state_dict(), starting_model(plan).state_dict()
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = starting_model(replace(plan, seed=plan.seed + 1)).state_dict()
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_adapters_without_their_base_are_refused(tmp_path: Path) -> None:
    config = {"base_model_name_or_path": str(tmp_path / "gone")}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"the base model of .* is missing") as refused:
        load_folder(tmp_path)
    assert refused.value.cause is Cause.MODEL_NOT_FOUND


def test_adapters_that_compute_in_bf16_have_their_base_as_it_is_stored(
    here: Path, tmp_path: Path
) -> None:
    shutil.copytree(here, tmp_path, dirs_exist_ok=True)
    base = tmp_path / "base" / "model.safetensors"
    stored = load_file(base)
    save_file({name: one.bfloat16() for name, one in stored.items()}, base, {"format": "pt"})
    plan = adapted(tmp_path, bf16=True)
    exact = dict(starting_model(plan, from_folder).named_parameters())
    for name, p in starting_model(plan).named_parameters():
        is_narrow = p.ndim > 1 and not p.requires_grad
        assert p.dtype == (torch.bfloat16 if is_narrow else torch.float32), name
        assert torch.equal(p.float(), exact[name]), name
    in_fp32 = starting_model(adapted(tmp_path, bf16=False))
    assert {p.dtype for p in in_fp32.parameters()} == {torch.float32}
