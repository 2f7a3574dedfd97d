"""The plan: model, names, settings with their origins, and identities that stay."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.helpers import (
    HERE,
    TINY,
    chats,
    decided,
    findings,
    folder_of,
    in_memory,
    settings,
)
from tests.training.prompted import prompted

from headway.config.settings import table
from headway.data.survey.result import SurveySample
from headway.planning.decide import decide
from headway.runs.identity import identity_of
from headway.runs.plan import Parent

CHAT = "." * 18 + "x" * 16  # incident D: 34 tokens


# ---- the rate, the model -----------------------------------------------------------------------


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
    """Runs that an earlier version planned must resume. The fourth, a stream, is as of 0.2."""
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
    assert plans[2].steps.share_prefixes
    assert plans[3].data.stream
    assert [plan.identity for plan in plans] == [
        "f83102e03177f47b61c585472bfd9c7079b1c896b51ee4000cea600fe91bcfe1",
        "d180fe2ef48cad228494f08a4c720139d7a61e6cca4cbd6c2f125b2126c4c4b5",
        "a86d82bac2c3372ba733c66968ad2f99d626cc7a8020632cb42609f819c820b4",
        "943adb21214e905267d858b32d01b964214209f4493d08363bd8121bf10c5ce1",
        "2511174697fe76bcf29c7de5b0e21ad998c05ea831597be7d8c3e4749c92df19",
    ]
    assert [identity_of(plan) for plan in plans] == [plan.identity for plan in plans]


def test_the_identity_of_a_stream_follows_from_its_plan() -> None:
    stream = in_memory(*chats(300), sampled=SurveySample(4000, 4_000_000, 5, 0.02))
    plan = decided(stream, folder_of(), truncation="reject", bf16=True)
    assert plan.identity == identity_of(plan)
