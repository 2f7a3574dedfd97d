"""Rows that begin alike run that once: where it pays and is exact, and what comes of it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import (
    folder_of,
    llama,
    plan_of,
    run,
)
from tests.training.prompted import ALL, SYSTEM, prompted

from headway.base.events import StepDone
from headway.base.pulse import Pulse
from headway.data.batching.packing import largest_shared_prefix
from headway.data.batching.rows import rows_of
from headway.data.batching.shared_prefixes import PrefixGroup
from headway.data.order import Numbers, StoreOrder
from headway.data.survey.store import Store
from headway.planning import prefix_sharing as sharing
from headway.planning.prefix_sharing import prefix_savings, sharing_obstacle
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.runs.verification.verify import verify
from headway.training.distributed.messages import EvaluatedRows

CONTEXT = folder_of(1024)
UNLIMITED = 1 << 40


# ---- what stands against it --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({}, ""),
        ({"attention_dropout": 0.1}, "attention_dropout 0.1 is random for each row"),
        ({"resid_pdrop": 0.25}, "resid_pdrop 0.25 is random for each row"),
        ({"layerdrop": 1}, "layerdrop 1 is random for each row"),
        ({"hidden_dropout_prob": 0.0, "attn_pdrop": 0}, ""),
        ({"dropout": None, "attention_dropout": True}, ""),
        ({"classifier_dropout": 0.1, "summary_first_dropout": 0.1}, ""),
        ({"text_config": {"attention_dropout": 0.5}}, "attention_dropout 0.5 is random for"),
        ({"attention_dropout": 0.5, "text_config": {"attention_dropout": 0.0}}, ""),
        ({"sliding_window": 99}, "the model has attention windows of 99 tokens"),
        ({"sliding_window": 100}, ""),
        ({"sliding_window": None}, ""),
        ({"attention_chunk_size": 64, "window_size": 32}, "windows of 32 tokens"),
        ({"sliding_window": 8, "use_sliding_window": True}, "windows of 8 tokens"),
        ({"sliding_window": 8, "use_sliding_window": False}, ""),
        ({"text_config": {"sliding_window": 8}}, "windows of 8 tokens"),
        ({"sliding_window": 8, "text_config": {"use_sliding_window": False}}, ""),
        ({"sliding_window": 8, "use_sliding_window": False, "embd_pdrop": 0.1}, "embd_pdrop 0.1"),
    ],
    ids=str,
)
def test_what_would_make_a_row_another_one_is_said(config: dict[str, Any], why: str) -> None:
    found = sharing_obstacle({"model_type": "llama", "hidden_size": 16} | config, 100, 0.0)
    assert why in found
    assert bool(found) == bool(why)


def test_dropout_of_adapters_is_said() -> None:
    assert sharing_obstacle(llama(), 100, 0.05) == "lora.lora_dropout 0.05 is random for each row"


# ---- how much it saves -------------------------------------------------------------------------


def test_all_of_a_small_epoch_is_looked_at(tmp_path: Path) -> None:
    rows = rows_of(prompted(tmp_path), 256)
    for batch, left_out in ((32, 31), (16, 2 * 15), (12, 11 + 11 + 7)):
        found = prefix_savings(rows, StoreOrder(1, 32, False, 0, batch), 1, UNLIMITED)
        assert found.share == pytest.approx(left_out * SYSTEM / ALL)
        assert found.leaves == 1


def test_a_family_that_is_cut_saves_less_and_fills_leaves(tmp_path: Path) -> None:
    rows = rows_of(prompted(tmp_path, owns=[11] * 32), 256)
    found = prefix_savings(
        rows, StoreOrder(1, 32, False, 0, 32), 4, SYSTEM + 40
    )  # 4 rows in a micro-batch
    assert found.share == pytest.approx(24 * SYSTEM / (32 * 210))
    assert found.leaves == 4
    assert prefix_savings(rows, StoreOrder(1, 32, False, 0, 32), 4, UNLIMITED).leaves == 1


def test_of_a_long_epoch_some_steps_are_looked_at_evenly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(StoreOrder):
        def rows(self, step: int) -> tuple[int, Numbers]:
            seen.append(step)
            return super().rows(step)

    rows, order = rows_of(prompted(tmp_path), 256), Watched(1, 32, False, 0, 4)
    monkeypatch.setattr(sharing, "_MAX_STEPS", 4)
    prefix_savings(rows, order, 1, UNLIMITED)
    monkeypatch.setattr(sharing, "_MAX_ROWS", 8)
    prefix_savings(rows, order, 1, UNLIMITED)
    monkeypatch.setattr(sharing, "_MAX_ROWS", 1)
    prefix_savings(rows, order, 1, UNLIMITED)
    assert seen == [1, 3, 5, 7, 1, 5, 1]


def test_of_a_flow_the_sample_is_looked_at(tmp_path: Path) -> None:
    rows, order = rows_of(prompted(tmp_path), 256), StoreOrder(1, 10**6, False, 10, 8)
    share = prefix_savings(rows, order, 1, UNLIMITED).share
    assert share == pytest.approx(7 / 8 * 32 * SYSTEM / ALL, rel=0.01)


def rows_of_family(family: PrefixGroup | None) -> list[int]:
    return sorted(family.rows) if family else []


def test_those_that_share_the_most_are_alike(tmp_path: Path) -> None:
    rows = rows_of(prompted(tmp_path), 256)
    assert rows_of_family(largest_shared_prefix(rows, np.array([3, 17, 5]))) == [3, 5, 17]
    assert largest_shared_prefix(rows, np.array([3])) is None
    assert largest_shared_prefix(rows, np.array([], dtype=np.int64)) is None


def test_of_two_families_the_one_that_begins_longer_is_alike(tmp_path: Path) -> None:
    store = prompted(tmp_path)
    ids = np.array(store.ids)
    for number, begin in enumerate(store.starts[4:10]):
        ids[begin], ids[begin + 150] = 99, 113 + number
    ids.tofile(tmp_path / "ids.bin")
    rows = rows_of(Store(tmp_path), 256)
    assert rows_of_family(largest_shared_prefix(rows, np.arange(10))) == [0, 1, 2, 3]
    assert rows_of_family(largest_shared_prefix(rows, np.arange(3, 10))) == [4, 5, 6, 7, 8, 9]


# ---- what runs ----------------------------------------------------------------------------------


def of_a_job(folder: Path, plan: Plan) -> tuple[list[float], list[int], Any]:
    """The losses and the computed tokens of each step, and the receipt's tokens."""
    ran = run(folder, plan)
    assert ran.code == 0
    steps = ran.of(StepDone)
    assert ran.receipt.tokens.input == sum(step.input_tokens for step in steps)
    return [s.loss for s in steps], [s.computed_tokens for s in steps], ran.receipt.tokens


def test_a_job_that_shares_learns_what_it_would_without(tmp_path: Path) -> None:
    store = prompted(tmp_path / "chats")
    plan = plan_of(store, batch_size=8, num_train_epochs=2, learning_rate=1e-2)
    assert plan.steps.share_prefixes
    apart = replace(plan, steps=replace(plan.steps, share_prefixes=False))
    losses, computed, tokens = of_a_job(tmp_path / "shared", plan)
    other_losses, other_computed, other_tokens = of_a_job(tmp_path / "apart", apart)
    assert len(losses) == 8
    assert losses == pytest.approx(other_losses, abs=1e-4)
    assert losses[-1] < losses[0] - 0.1
    assert tokens.shared == tokens.input - sum(computed) == 2 * 28 * SYSTEM
    assert tokens.shared / tokens.input == pytest.approx(plan.data.shared)
    assert (other_tokens.shared, other_tokens.padding) == (0, 0)
    assert sum(other_computed) == tokens.input == other_tokens.input
    assert tokens.trained == other_tokens.trained


def test_what_is_only_looked_at_shares_too(tmp_path: Path) -> None:
    plan = plan_of(prompted(tmp_path / "chats"), batch_size=8, val_size=4)
    probes = run(tmp_path / "run", plan).job.trainer.probes
    for rows in EvaluatedRows:
        micros = probes.batches(rows)
        num_rows = sum(len(micro.rows_R) for micro in micros)
        assert num_rows in (8, 4)
        tokens = sum(len(micro.ids_N) for micro in micros)
        assert SYSTEM < tokens < SYSTEM + 10 * num_rows


def test_a_job_whose_model_may_not_share_runs_each_row_whole(tmp_path: Path) -> None:
    plan = plan_of(prompted(tmp_path / "chats"), batch_size=8)
    (tmp_path / "run").mkdir()
    settled = replace(Settled.from_plan(plan), has_tried=True, share_prefixes=False)
    settled.save(tmp_path / "run")
    _, computed, tokens = of_a_job(tmp_path / "run", plan)
    assert tokens.shared == 0
    assert sum(computed) == tokens.input == ALL


def test_a_receipt_that_tells_other_shared_tokens_is_found(tmp_path: Path) -> None:
    ran = run(tmp_path / "run", plan_of(prompted(tmp_path / "chats"), batch_size=8))
    assert verify(ran.folder, Pulse()).differences == ()
    path = ran.folder.path / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["tokens"]["shared"] += 1
    path.write_text(json.dumps(receipt))
    assert [claim.name for claim in verify(ran.folder, Pulse()).differences] == ["tokens.shared"]
