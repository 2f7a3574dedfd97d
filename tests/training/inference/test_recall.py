"""Rows that are kept of a run, and the losses of a model on them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.helpers import chat_store, chats, order_of, plan_of, save_model, text_store

from headway.base.pulse import Pulse
from headway.data.batching.batches import evaluation_micro_batches
from headway.data.batching.rows import rows_of
from headway.data.survey.store import Store
from headway.model.forward import Forward
from headway.runs.archive.kept_rows import FILE
from headway.runs.plan import Plan
from headway.training.evaluation.evaluate import measure_loss
from headway.training.inference.recall import recall
from headway.training.inference.request import InferenceRequest, Recalled
from headway.training.weights.initial_weights import load_folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("recall") / "model")


def run_of(folder: Path, store: Store, **given: object) -> tuple[Path, Plan]:
    plan = plan_of(store, **{"max_length": 16, "batch_size": 20, **given})
    folder.mkdir()
    plan.save(folder)
    return folder, plan


def recalled(model: Path, *runs: Path) -> tuple[Recalled, ...]:
    request = InferenceRequest("recall", str(model), runs=tuple(map(str, runs)))
    return recall(request, Pulse())


def loss_on(model: Path, store: Store, numbers: list[int]) -> float:
    micros = evaluation_micro_batches(rows_of(store, 16), np.array(numbers), 2048, "cpu")
    return measure_loss(Forward(load_folder(model)), micros, Pulse()).mean


@pytest.mark.parametrize("kind", ["text", "conversations"])
@pytest.mark.parametrize("val_size", [0, 5])
def test_rows_of_a_run_are_measured_long_after_its_data_is_gone(
    model: Path, tmp_path: Path, kind: str, val_size: int
) -> None:
    make = text_store if kind == "text" else chat_store
    store = make(tmp_path / "store", *((300, 40, 1, 2, 500, 30) if kind == "text" else chats(50)))
    run, plan = run_of(tmp_path / "run", store, val_size=val_size)
    order = order_of(plan, store)
    numbers = order.held_out() if val_size else order.rows(1)[1][np.arange(16) * 20 // 16]
    wanted = loss_on(model, store, numbers.tolist())
    (found,) = recalled(model, run)
    assert found.loss is not None
    assert found.loss.mean == pytest.approx(wanted, rel=1e-6)
    assert (found.loss.rows, found.are_held_out) == (len(numbers), bool(val_size))
    shutil.rmtree(tmp_path / "store")
    assert recalled(model, run) == (found,)


def test_what_was_not_kept_in_time_says_so_and_the_others_are_measured(
    model: Path, tmp_path: Path
) -> None:
    stores = [chat_store(tmp_path / f"store-{n}", *chats(30 + n)) for n in range(2)]
    runs = [run_of(tmp_path / f"run-{n}", store)[0] for n, store in enumerate(stores)]
    shutil.rmtree(tmp_path / "store-0")
    gone, there = recalled(model, *runs)
    assert gone.loss is None
    assert "its rows were not kept" in gone.problem
    assert there.loss is not None
    assert recalled(model, runs[0]) == (gone,)
    assert not (runs[0] / FILE).exists()
