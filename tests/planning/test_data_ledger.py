"""The data ledger: padding, rejected records, and rows that add up."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import (
    chat_store,
    chats,
    decided,
    findings,
    folder_of,
    in_memory,
    order_of,
    plan_of,
    settings,
)

from headway.base.errors import DataRefused
from headway.data.batching.replay import replay_totals
from headway.data.examples.notes import LOST, ExampleNote
from headway.data.formats.records import Rejected, RejectReason
from headway.planning.data_ledger import with_replay
from headway.runs.archive.kept_rows import kept_rows_of
from headway.runs.identity import identity_of
from headway.runs.plan import Parent, Plan

CHAT = "." * 18 + "x" * 16  # incident D: 34 tokens


# ---- padding ------------------------------------------------------------------------------------


def test_d_b01_f28_padding_is_told_and_is_gone() -> None:
    plan = decided(in_memory(*[CHAT] * 200), folder_of(), max_length=256)
    assert round(1 - plan.data.padding_to_max, 2) == round(33 / 256, 2)
    assert plan.data.padding == 0
    plan = decided(in_memory(*[CHAT] * 200), folder_of(2048), max_length=1024)
    assert round(100 * plan.data.padding_to_max) == 97


def test_d_without_a_word_the_length_is_the_datas() -> None:
    plan = decided(in_memory(*[CHAT] * 200), folder_of())
    assert plan.data.max_length == 64
    assert plan.choice("max_length").reason == "holds the longest conversation (34 tokens)"


def test_padding_to_the_longest_is_that_of_the_steps() -> None:
    store = in_memory(*["." * n + "x" for n in (1, 2, 4, 8)])
    plan = decided(store, folder_of(), batch_size=4)
    assert plan.data.padding_to_longest == pytest.approx(1 - 15 / 32)
    assert decided(store, folder_of(), batch_size=1).data.padding_to_longest == 0


# ---- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num", "places"),
    [
        (3, "2 not JSON, 1 no text: a.jsonl:1, a.jsonl:2, a.jsonl:3"),
        (4, "3 not JSON, 1 no text; the first: a.jsonl:1, a.jsonl:2, a.jsonl:3"),
    ],
)
def test_rejected_records_are_told_and_counted(
    num: int, places: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = in_memory(
        *["..xx"] * 50, records_read=50 + num, records_rejected={"not JSON": num - 1, "no text": 1}
    )
    found = [Rejected("a.jsonl", 1 + line, RejectReason.NOT_JSON) for line in range(num)]
    monkeypatch.setattr(store, "rejected", lambda most: found[:most])
    plan = decided(store, folder_of())
    assert findings(plan, "warning") == [f"{num} records of {50 + num} rejected"]
    assert next(one.have for one in plan.findings if one.kind == "warning") == places
    records = plan.data.records
    assert records.read == records.accepted + sum(records.rejected.values())


# ---- the ledger --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(2, 60), min_size=1, max_size=20),
    st.booleans(),
    st.integers(1, 9),
    st.integers(1, 40),
    st.floats(0, 0.5),
    st.integers(0, 10**6),
)
def test_the_ledger_adds_up(
    lengths: list[int], text: bool, batch: int, num: int, val_size: float, seed: int
) -> None:
    examples = lengths if text else ["." + "x" * (n - 1) for n in lengths]
    store = in_memory(*examples)
    given = {"batch_size": batch, "max_steps": num, "val_size": val_size, "seed": seed}
    try:
        plan = decided(store, **given)
    except DataRefused:
        return
    rows, order = plan.data.rows, order_of(plan, store)
    assert rows.accepted == rows.held_out + rows.planned + rows.not_planned
    taken = [tuple(order.rows(step)) for step in range(1, plan.steps.num + 1)]
    applied = list(itertools.chain.from_iterable(numbers.tolist() for _, numbers in taken))
    assert rows.applications == len(applied)
    assert rows.planned == len(set(applied)) or rows.planned == order.rows_per_epoch
    assert not set(applied) & set(order.held_out().tolist())
    assert rows.row_sum == order.row_sum(plan.steps.num)


# ---- what the template does not write ----------------------------------------------------------


def test_what_the_template_loses_is_a_warning_with_its_number() -> None:
    notes = {note.value: 3 for note in LOST}
    plan = decided(in_memory(*["..xx"] * 50, notes=notes), folder_of())
    assert findings(plan, "warning") == [f"3 {note}" for note in LOST]
    assert plan.data.notes == notes


def test_answers_without_an_end_are_a_warning() -> None:
    notes = {ExampleNote.WITHOUT_END.value: 50, ExampleNote.UNPROMPTED.value: 50}
    plan = decided(in_memory(*["..xx"] * 50, notes=notes), folder_of())
    assert findings(plan, "warning") == [f"50 {ExampleNote.WITHOUT_END}"]


# ---- rows of earlier runs ------------------------------------------------------------------------


def runs(folder: Path, *names: str, kept: bool = True) -> Parent:
    """Runs that go on from each other; returns what goes on from the last."""
    parent: Parent | None = None
    for name in names:
        run = folder / name
        run.mkdir()
        plan = plan_of(chat_store(folder / f"store-{name}", *chats(40)), max_length=16)
        plan = replace(plan, model=replace(plan.model, parent=parent))
        plan.save(run)
        if kept:
            kept_rows_of(run)
        parent = Parent(name, str(run / "checkpoint-10"), 10, "", True)
    assert parent
    return parent


def replaying(folder: Path, parent: Parent | None, share: float = 0.25, **given: Any) -> Plan:
    store = chat_store(folder / "store", *chats(60))
    plan = plan_of(store, max_length=16, batch_size=8, **given)
    plan = replace(plan, model=replace(plan.model, parent=parent))
    return with_replay(plan, settings(replay=share))


def test_rows_of_all_earlier_runs_are_mixed_in(tmp_path: Path) -> None:
    plan = replaying(tmp_path, runs(tmp_path, "a", "b", "c"))
    assert plan.replay
    assert [source.run for source in plan.replay.sources] == ["a", "b", "c"]
    assert plan.replay.num_rows == 8 * 8 // 4
    assert replay_totals(plan.replay, plan.steps.num) == (16, plan.replay.row_sum)
    assert plan.data.rows.planned == 60  # its own rows are what they were
    assert plan.identity == identity_of(plan) != identity_of(replace(plan, replay=None))


def test_without_earlier_runs_nothing_is_replayed_and_that_is_said(tmp_path: Path) -> None:
    plan = replaying(tmp_path, None)
    assert plan.replay is None
    assert findings(plan, "ok")[-1] == "nothing to replay: no earlier run has kept rows"
    assert replaying(tmp_path, None, share=0).findings == plan.findings[:-1]


def test_a_run_whose_rows_are_gone_is_named(tmp_path: Path) -> None:
    parent = runs(tmp_path, "a", "b", kept=False)
    kept_rows_of(tmp_path / "b")
    shutil.rmtree(tmp_path / "store-a")
    plan = replaying(tmp_path, parent)
    assert plan.replay
    assert [source.run for source in plan.replay.sources] == ["b"]
    assert findings(plan, "warning")[-1] == "no row of a is replayed"
