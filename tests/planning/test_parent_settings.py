"""The settings of the run that is continued, however it is named."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import plan_of, settings, text_store
from tests.runs.folders import made

from headway.base.errors import UsageError
from headway.config.settings import Settings
from headway.planning.parent_settings import parent_run, with_parent_settings
from headway.runs.checkpoint_state import FILE
from headway.runs.plan import LoraPlan


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A run that was trained with its own length, batch and rate."""
    store = text_store(tmp_path / "store", 200)
    plan = plan_of(store, max_length=16, batch_size=4, learning_rate=3e-3)
    folder = made(tmp_path / "runs" / "first", plan).path
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3" / FILE).write_text("{}")
    (folder / "model").symlink_to("checkpoint-3")
    return tmp_path / "runs"


def taken(runs: Path, **given: Any) -> Settings:
    return with_parent_settings(settings(output_dir=str(runs), **given))


@pytest.mark.parametrize("where", ["name", "folder", "checkpoint", "link"])
@pytest.mark.parametrize("how", ["continue_run", "model"])
def test_the_run_is_found_however_it_is_named(runs: Path, how: str, where: str) -> None:
    first = runs / "first"
    name = {
        "name": "first",
        "folder": str(first),
        "checkpoint": str(first / "checkpoint-3"),
        "link": str(first / "model"),
    }[where]
    found = taken(runs, **{how: name})
    assert (found.max_length, found.batch_size, found.learning_rate) == (16, 4, 3e-3)
    assert found.origin("max_length") == "run first"


def test_what_is_no_run_has_no_settings(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "first" / "checkpoint-3", tmp_path / "weights")
    for given in ({}, {"preset": "tiny"}, {"model": str(tmp_path / "weights")}):
        asked = settings(output_dir=str(runs), **given)
        assert parent_run(asked) is None
        assert with_parent_settings(asked) is asked


def test_a_plan_that_cannot_be_read_is_not_passed_over(runs: Path) -> None:
    (runs / "first" / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match="settings of run first cannot be read") as refused:
        taken(runs, continue_run="first")
    assert "headway restore first" in [remedy.do for remedy in refused.value.remedies]


def test_adapters_are_told_as_they_are(runs: Path, tmp_path: Path) -> None:
    plan = plan_of(text_store(tmp_path / "store2", 200), max_length=16)
    lora = LoraPlan(4, 8.0, 0.1, ("q_proj",))
    made(runs / "adapted", replace(plan, model=replace(plan.model, lora=lora)))
    found = taken(runs, continue_run="adapted")
    assert (found.lora, found.lora_r, found.lora_alpha, found.lora_dropout) == (True, 4, 8.0, 0.1)
