"""Base model of adapters: in its place, moved along, or where a person says; always the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tests.runs.folders import made, planned

from headway.base.errors import Cause, UsageError
from headway.runs.base_model import ADAPTERS, find_base_model, weights_hash
from headway.runs.plan import Parent


def weights(folder: Path, value: float) -> Path:
    folder.mkdir(parents=True)
    save_file({"w": np.full(4, value, dtype=np.float32)}, folder / "model.safetensors")
    return folder


def adapted(run: Path, base: Path, **model: Any) -> Path:
    """The checkpoint of a run of adapters on a base model."""
    plan = planned()
    model = {"source": "folder", "weights_sha256": weights_hash(base)} | model
    made(run, replace(plan, model=replace(plan.model, **model)))
    checkpoint = run / "checkpoint-3"
    checkpoint.mkdir()
    (checkpoint / ADAPTERS).write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (run / "model").symlink_to("checkpoint-3")
    return checkpoint


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """project/models/base, and adapters on it in project/runs/notes."""
    project = tmp_path / "project"
    adapted(project / "runs" / "notes", weights(project / "models" / "base", 1.0))
    return project


def test_it_is_where_it_was(project: Path) -> None:
    checkpoint = project / "runs" / "notes" / "checkpoint-3"
    assert find_base_model(checkpoint) == project / "models" / "base"


def test_a_tree_that_was_moved_as_a_whole_has_it_in_the_same_place(project: Path) -> None:
    moved = project.rename(project.with_name("elsewhere"))
    found = find_base_model(moved / "runs" / "notes" / "checkpoint-3")
    assert found == moved / "models" / "base"


def test_another_model_of_that_name_is_not_taken_for_it(project: Path) -> None:
    moved = project.rename(project.with_name("elsewhere"))
    shutil.rmtree(moved / "models" / "base")
    weights(moved / "models" / "base", 2.0)
    with pytest.raises(UsageError, match="the base model of checkpoint-3 is missing"):
        find_base_model(moved / "runs" / "notes" / "checkpoint-3")


def test_a_base_model_that_is_gone_is_told_with_its_hash(project: Path) -> None:
    base = project / "models" / "base"
    short = weights_hash(base)[:12]
    base.rename(project / "renamed")
    checkpoint = project / "runs" / "notes" / "checkpoint-3"
    with pytest.raises(UsageError, match="is missing") as refused:
        find_base_model(checkpoint)
    assert refused.value.have == f"adapters for {base}, weights {short}"
    assert refused.value.remedies[0].do == "--model DIR"
    assert find_base_model(checkpoint, project / "renamed") == project / "renamed"  # as it says


@pytest.mark.parametrize("harm", ["other", "empty", "absent"])
def test_what_a_person_names_must_be_the_same_model(project: Path, harm: str) -> None:
    given = project / "given"
    if harm == "other":
        weights(given, 2.0)
    if harm == "empty":
        given.mkdir()
    with pytest.raises(UsageError, match="is not the base model of checkpoint-3") as refused:
        find_base_model(project / "runs" / "notes" / "checkpoint-3", given)
    assert refused.value.cause is Cause.MODEL_INVALID
    short = weights_hash(project / "models" / "base")[:12]
    assert refused.value.need == f"base, weights {short}"
    assert ("model.safetensors" in refused.value.have) == (harm == "other")


def test_adapters_that_went_on_have_the_base_of_the_first_run(project: Path) -> None:
    base, runs = project / "models" / "base", project / "runs"
    parent = Parent(str(runs / "notes"), "", 3, "", keeps_optimizer=True)
    more = {"source": "run", "weights_sha256": "of the adapters", "parent": parent}
    adapted(runs / "more", base, **more)
    moved = project.rename(project.with_name("elsewhere"))
    assert find_base_model(moved / "runs" / "more" / "checkpoint-3") == moved / "models" / "base"
