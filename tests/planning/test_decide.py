"""The plan: padding, rates and names decided, and a ledger that adds up."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import (
    HERE,
    TINY,
    chats,
    decided,
    findings,
    folder_of,
    in_memory,
    order_of,
    settings,
)
from tests.training.prompted import prompted

from headway.base.errors import DataRefused
from headway.config.settings import table
from headway.data.survey.result import SurveySample
from headway.planning.decide import decide
from headway.planning.model_source import InitialModel
from headway.runs.plan import Parent, identity_of

CHAT = "." * 18 + "x" * 16  # incident D: 34 tokens


# ---- incident D: padding -----------------------------------------------------------------------


def test_d_b01_padding_is_told_and_is_gone() -> None:
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


# ---- warm-up -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "num", "warmup"),
    [
        (None, 10, 0),
        (None, 100, 5),
        (None, 10_000, 100),
        (0, 10, 0),
        (3, 10, 3),
        (0.2, 10, 2),
        (9, 10, 9),
        (10, 10, 1),
        (500, 10, 1),
        (0.99, 10, 1),
        (5, 1, 0),
    ],
)
def test_l07_warm_up_never_lasts_the_whole_job(asked: Any, num: int, warmup: int) -> None:
    given = {} if asked is None else {"warmup_steps": asked}
    plan = decided(in_memory(1601), max_length=16, max_steps=num, **given)
    assert plan.learning.warmup_steps == warmup
    adjusted = asked is not None and (asked if asked >= 1 else round(asked * num)) != warmup
    assert bool(findings(plan, "adjusted")) == adjusted


# ---- the rate, the model -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "given", "peak"),
    [
        (TINY, {}, 3e-3),
        (InitialModel("preset", "base", ""), {}, 6e-4),
        (folder_of(), {}, 2e-5),
        (folder_of(), {"lora": True}, 2e-4),
        (folder_of(), {"lr": 1e-3}, 1e-3),
    ],
)
def test_the_peak_rate(start: InitialModel, given: dict[str, Any], peak: float) -> None:
    assert decided(in_memory(1601), start, **given).learning.peak == peak


def test_adapters_are_decided() -> None:
    plan = decided(in_memory(1601), folder_of(), lora_r=4, lora_dropout=0.1)
    assert plan.model.lora is not None
    assert (plan.model.lora.r, plan.model.lora.dropout) == (4, 0.1)
    assert 0 < plan.model.trainable < plan.model.parameters
    assert decided(in_memory(1601), folder_of()).model.trainable == plan.model.parameters


def test_a_little_text_for_many_weights_hears_what_to_expect() -> None:
    (told,) = [w for w in findings(decided(in_memory(1598)), "warning") if "weights" in w]
    assert told.startswith("1,597 tokens for ")
    assert told.endswith("it will repeat your text")
    assert not findings(decided(in_memory(1598), folder_of()), "warning")


def test_rejected_records_are_told_and_counted() -> None:
    store = in_memory(
        *["..xx"] * 50, records_read=53, records_rejected={"not JSON": 2, "no text": 1}
    )
    plan = decided(store, folder_of())
    assert findings(plan, "warning") == ["3 records of 53 rejected"]
    records = plan.data.records
    assert records.read == records.accepted + sum(records.rejected.values())


def test_another_run_is_gone_on_from() -> None:
    parent = Parent("runs/a", "runs/a/checkpoint-2488", 2488, "77" * 32, keeps_optimizer=True)
    plan = decided(
        in_memory(1601), replace(folder_of(), source="run", parent=parent), max_steps=500
    )
    assert (plan.steps.first, plan.steps.num, plan.steps.last) == (2488, 500, 2988)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/notes.txt", "notes"),
        ("books/", "books"),
        ("logs/*.jsonl", "run"),
        ("-", "stdin"),
        ("my notes.v2.txt", "my-notes"),
        (".txt", "run"),
        ("x" * 300, "x" * 60),
    ],
)
def test_a_run_is_named_after_its_first_source(source: str, name: str) -> None:
    plan = decide(settings(), (source, "b.txt"), in_memory(1601), TINY, HERE)
    assert plan.name == name
    assert decide(settings(name="mine"), (source,), in_memory(1601), TINY, HERE).name == "mine"


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


# ---- a plan as a value -------------------------------------------------------------------------


def test_every_setting_says_where_it_came_from() -> None:
    plan = decided(in_memory(1601), lr=1e-3)
    assert [choice.name for choice in plan.settings] == [
        row.metadata["name"] or row.name for row in table()
    ]
    assert plan.choice("learning_rate").origin == "--lr"
    assert plan.choice("weight_decay").origin == "default"
    assert plan.choice("max_length").origin == "auto"
    assert plan.choice("max_length").reason
    with pytest.raises(KeyError):
        plan.choice("no_such_setting")


def test_the_identities_of_plans_do_not_change(tmp_path: Path) -> None:
    """Runs that an earlier version planned must resume."""
    texts = in_memory(3201, 900)
    parent = Parent("runs/a", "runs/a/checkpoint-2488", 2488, "77" * 32, keeps_optimizer=True)
    run = replace(folder_of(), source="run", parent=parent)
    sampled = SurveySample(39_000, 3_900_000, 5, 0.013)
    stream = in_memory(30_000, 9_000, sampled=sampled)
    shared = {"batch_size": 16, "lora": True, "lora_dropout": 0.0}
    plans = [
        decided(texts),
        decided(in_memory(*chats(300)), folder_of(), batch_size=16, val_size=0.1),
        decided(prompted(tmp_path), folder_of(1024), **shared),
        decided(stream, folder_of(), batch_size=32, val_size=20),
        decided(texts, run, max_steps=500),
    ]
    assert plans[2].shares
    assert plans[3].data.stream
    assert [plan.identity for plan in plans] == [
        "f83102e03177f47b61c585472bfd9c7079b1c896b51ee4000cea600fe91bcfe1",
        "d180fe2ef48cad228494f08a4c720139d7a61e6cca4cbd6c2f125b2126c4c4b5",
        "a86d82bac2c3372ba733c66968ad2f99d626cc7a8020632cb42609f819c820b4",
        "0beaef432b6285ebdd57b65387a5a9aa50292bb4c41946bb280f4e3ca88045ff",
        "2511174697fe76bcf29c7de5b0e21ad998c05ea831597be7d8c3e4749c92df19",
    ]
    assert [identity_of(plan) for plan in plans] == [plan.identity for plan in plans]


def test_the_identity_of_a_stream_follows_from_its_plan() -> None:
    stream = in_memory(*chats(300), sampled=SurveySample(4000, 4_000_000, 5, 0.02))
    plan = decided(stream, folder_of(), truncation="reject", bf16=True)
    assert plan.identity == identity_of(plan)
