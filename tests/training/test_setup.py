"""Setup: data that changed, a frozen model and a missing folder are refused before step 1."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers import causal, run
from tests.training.jobs import adapted, planned

from headway.base.errors import BrokenContract, Cause, DataRefused, MachineError, UsageError
from headway.base.pulse import Pulse
from headway.runs.settled import Settled
from headway.training.setup import set_up
from headway.training.weights import holding
from headway.training.weights.initial_weights import end_ids_of


def test_d17_data_that_changed_since_the_plan_is_refused(here: Path, tmp_path: Path) -> None:
    plan = planned(here)
    plan = replace(plan, data=replace(plan.data, fingerprint="cd" * 32))
    with pytest.raises(DataRefused, match="the data changed since this run started"):
        run(tmp_path / "run", plan)
    assert not (tmp_path / "run" / "receipt.json").exists()


def test_f29_l04_a_model_that_is_all_frozen_is_refused(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = causal("llama").requires_grad_(False)
    monkeypatch.setattr(holding, "starting_model", lambda *_, **__: frozen)
    with pytest.raises(BrokenContract, match="this model has no trainable tensor"):
        run(tmp_path / "run", planned(here))


def test_a_model_folder_that_is_gone_is_refused(here: Path, tmp_path: Path) -> None:
    plan = adapted(here)
    plan = replace(plan, model=replace(plan.model, path=str(tmp_path / "gone")))
    with pytest.raises(UsageError, match="is not a model folder"):
        run(tmp_path / "run", plan)


@pytest.mark.parametrize("part", ["", "store.json", "ids.bin", "starts.npy", "places.npy"])
@pytest.mark.parametrize("damage", ["missing", "cut", "unreadable"])
def test_tokens_that_this_machine_does_not_have_are_told(
    here: Path, tmp_path: Path, part: str, damage: str
) -> None:
    plan = planned(here)
    store = tmp_path / "store"
    if part:
        shutil.copytree(plan.data.store, store)
        (store / part).unlink()
        if damage == "cut":
            (store / part).write_bytes(b"")
        elif damage == "unreadable":
            (store / part).mkdir()
    plan = replace(plan, data=replace(plan.data, store=str(store)))
    with pytest.raises(MachineError, match="tokens cannot be read on this machine") as refused:
        run(tmp_path / "run", plan)
    assert refused.value.cause is Cause.CACHE_MISSING
    assert str(store) in refused.value.have
    assert not (tmp_path / "run" / "receipt.json").exists()


def test_tokens_that_are_others_than_the_plans_are_refused(here: Path, tmp_path: Path) -> None:
    """The same text, tokenized by another version of the tokenizer, once the cache is gone."""
    plan = planned(here)
    plan = replace(plan, data=replace(plan.data, examples="cd" * 32))
    with pytest.raises(DataRefused, match="tokenized differently when this run started"):
        run(tmp_path / "run", plan)
    assert not (tmp_path / "run" / "receipt.json").exists()


@pytest.mark.parametrize("ends", [[], [3, 4]], ids=["of an older store", "all"])
def test_the_model_stops_at_every_token_that_ended_an_answer(here: Path, ends: list[int]) -> None:
    plan = planned(here)
    meta = Path(plan.data.store) / "store.json"
    store = json.loads(meta.read_text())
    store["survey"]["end_ids"] = ends
    meta.write_text(json.dumps(store))
    found = end_ids_of(set_up(plan, Settled.from_plan(plan), Pulse()).forward.weights)
    assert set(found) >= set(ends or [store["survey"]["end_id"]])
