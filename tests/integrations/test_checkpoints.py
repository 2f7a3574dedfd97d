"""Checkpoints of a Trainer: damaged and spoiled ones are told from good ones and from others."""

from pathlib import Path

import pytest
import torch
from tests.integrations.trainers import tiny_model

from headway.base.errors import Cause
from headway.base.files import hash_file
from headway.integrations.checkpoints import look_at_checkpoint, with_hashes
from headway.integrations.weight_audit import WeightAudit


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint-8"
    tiny_model().save_pretrained(folder)
    return folder


def test_a_good_one_has_its_size_and_its_hashes(saved: Path) -> None:
    found = look_at_checkpoint(saved, 8, WeightAudit(tiny_model()))
    assert found is not None
    assert found.problem is None
    weights = saved / "model.safetensors"
    assert found.checkpoint.bytes == weights.stat().st_size
    hashed = with_hashes(found.checkpoint)
    assert hashed.sha256 == {"model.safetensors": hash_file(weights).sha256}


def test_one_that_is_cut_off_is_named(saved: Path) -> None:
    weights = saved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    found = look_at_checkpoint(saved, 8, None)
    assert found is not None
    assert found.problem is not None
    assert found.problem.cause is Cause.READ_BACK_FAILED
    assert with_hashes(found.checkpoint) == found.checkpoint
    assert found.checkpoint.problem


def test_weights_that_are_not_finite_are_named(saved: Path) -> None:
    model = tiny_model()
    with torch.no_grad():
        next(model.parameters())[0] = torch.nan
    found = look_at_checkpoint(saved, 8, WeightAudit(model))
    assert found is not None
    assert found.problem is not None
    assert found.problem.cause is Cause.WEIGHTS_NOT_FINITE


def test_one_that_is_elsewhere_or_in_another_format_is_no_fault(tmp_path: Path) -> None:
    assert look_at_checkpoint(tmp_path / "checkpoint-8", 8, None) is None
    folder = tmp_path / "checkpoint-9"
    folder.mkdir()
    (folder / "pytorch_model_fsdp_0").mkdir()
    found = look_at_checkpoint(folder, 9, None)
    assert found is not None
    assert (found.problem, found.checkpoint.bytes) == (None, 0)


def test_one_that_was_deleted_keeps_what_is_known(saved: Path) -> None:
    found = look_at_checkpoint(saved, 8, None)
    assert found is not None
    (saved / "model.safetensors").unlink()
    assert with_hashes(found.checkpoint).sha256 == {}
