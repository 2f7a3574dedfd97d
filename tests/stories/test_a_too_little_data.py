"""Incident A: too little data for one batch. It hung at epoch 1; now it is fitted, or refused."""

import json
import re
from pathlib import Path

import pytest

from headway.base.errors import DataRefused
from headway.base.pulse import Pulse
from headway.config.settings import Settings
from headway.supervise.planner import PlanRequest, make_plan

from .conftest import Headway


def text_of(tokens: int) -> str:
    """A text of so many tokens under the byte-level tokenizer, its end token counted."""
    return ("The quick brown fox jumps over the lazy dog. " * 200)[: tokens - 1] if tokens else ""


def test_1598_tokens_with_a_batch_of_32_rows_train_as_one_batch_of_12(headway: Headway) -> None:
    headway.write("notes.txt", text_of(1598))
    told = headway("train", "notes.txt", "--max-length", 128, "--batch-size", 32)
    assert told.code == 0, told.err
    assert "batch_size lowered to 12" in told.out
    plan, receipt = headway.plan("notes"), headway.receipt("notes")
    assert plan["steps"]["batch_size"] == 12
    assert plan["steps"]["num"] == 1
    # 1,536 tokens in full rows, the 61 that are left as a short one
    assert plan["data"]["rows"]["planned"] == 13
    assert receipt["tokens"]["trained"] == 1597 == 12 * 128 + 61
    assert receipt["contract"]["verdict"] == "kept"
    assert receipt["learning"]["verdict"] == "unclear"  # one step proves nothing
    assert told.out.strip().splitlines()[-1] == receipt["line"]


def test_exact_refuses_where_it_would_adjust(headway: Headway) -> None:
    headway.write("notes.txt", text_of(1598))
    told = headway("train", "notes.txt", "--max-length", 128, "--batch-size", 32, "--exact")
    assert told.code == 2
    assert "try   --batch-size 12" in told.err
    assert not (headway.here / "runs").exists()
    again = headway("plan", "notes.txt", "--max-length", 128, "--batch-size", 12, "--exact")
    assert again.code == 0, again.err


def test_100_tokens_are_refused_with_a_remedy_that_works(headway: Headway) -> None:
    headway.write("notes.txt", text_of(100))
    told = headway("train", "notes.txt", "--max-length", 128)
    assert told.code == 3
    assert told.err.splitlines()[:3] == [
        "notes.txt is too short for one row",
        "  have  100 tokens",
        "  need  129, one full row of max_length 128",
    ]
    assert "29 tokens more" in told.err
    assert not (headway.here / "runs").exists()
    remedy = re.search(r"try   (--max-length \d+)", told.err)
    assert remedy
    assert headway("train", "notes.txt", *remedy[1].split()).code == 0


def test_100000_tokens_need_no_adjustment(headway: Headway) -> None:
    headway.write("notes.txt", text_of(100_000) + text_of(91_001))
    told = headway("plan", "notes.txt", "--max-length", 128, "--batch-size", 32, "--json")
    assert told.code == 0, told.err
    assert [f for f in told.json["findings"] if f["kind"] == "adjusted"] == []
    assert told.json["steps"]["batch_size"] == 32


@pytest.mark.parametrize("tokens", [0, 128, 129, 1000, 2550, 5000])
def test_a_size_is_trained_or_refused(headway: Headway, tokens: int) -> None:
    headway.write("notes.txt", text_of(tokens))
    told = headway("train", "notes.txt", "--max-length", 128, "--batch-size", 32, "--json")
    if tokens < 129:
        assert told.code == 3
        assert not (headway.here / "runs").exists()
        return
    assert told.code == 0, told.err
    receipt = headway.receipt("notes")
    assert receipt["steps"]["applied"] == receipt["steps"]["planned"] >= 1
    assert receipt["contract"]["verdict"] == "kept"


@pytest.mark.parametrize("tokens", range(0, 5001, 50))
def test_every_size_is_planned_with_work_to_do_or_refused(tmp_path: Path, tokens: int) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text(text_of(tokens))
    request = PlanRequest((str(notes),), Settings(max_length=128, batch_size=32), train=False)
    if tokens < 129:
        with pytest.raises(DataRefused):
            make_plan(request, Pulse())
        return
    assert make_plan(request, Pulse()).steps.num >= 1


def test_conversations_without_a_model_are_refused_with_both_remedies(headway: Headway) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    headway.write("chats.jsonl", json.dumps({"messages": turns}) + "\n")
    told = headway("train", "chats.jsonl")
    assert told.code == 2
    assert "--model DIR" in told.err
    assert "--preset mini" in told.err
    assert not (headway.here / "runs").exists()
