"""Incident B: the second file "finished at once". Now steps add, and every row is trained once."""

import json
from pathlib import Path

import pytest

from .conftest import Headway


def chats(num: int, salt: str) -> str:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{salt} question {i}"},
                {"role": "assistant", "content": f"{salt} answer {i}"},
            ]
        }
        for i in range(num)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Headway:
    """A folder in which a first file has been trained; each test adds a run of its own."""
    headway = Headway(tmp_path_factory.mktemp("first"), cache)
    headway.write("first.jsonl", chats(19, "first"))
    done = headway("train", "first.jsonl", "--preset", "tiny", "--batch-size", 4)
    assert done.code == 0, done.err
    assert headway.receipt("first")["steps"] == {
        "first": 0, "last": 5, "planned": 5, "applied": 5
    }  # fmt: skip
    return headway


@pytest.mark.parametrize(("rows", "steps"), [(7, 2), (19, 5), (30, 8)])
def test_a_second_file_trains_all_its_rows_on_top_of_the_first(
    first: Headway, rows: int, steps: int
) -> None:
    headway, run = first, f"second-{rows}"
    headway.write(f"{run}.jsonl", chats(rows, "second"))
    second = headway("train", f"{run}.jsonl", "--continue", "first", "--batch-size", 4)
    assert second.code == 0, second.err
    promise = f"this file adds {steps} steps, reaching global step {5 + steps}"
    lines = second.out.splitlines()
    told_at = next(i for i, line in enumerate(lines) if promise in line)
    stepped_at = next(i for i, line in enumerate(lines) if line.startswith("step "))
    assert told_at < stepped_at

    receipt = headway.receipt(run)
    assert receipt["steps"] == {
        "first": 5, "last": 5 + steps, "planned": steps, "applied": steps
    }  # fmt: skip
    assert receipt["rows"]["planned"] == receipt["rows"]["trained"] == rows
    assert receipt["rows"]["applications"] == rows
    assert receipt["rows"]["missing"] == receipt["rows"]["repeated"] == 0
    assert receipt["rows"]["row_sum"] == receipt["rows"]["row_sum_planned"]
    assert (headway.here / "runs" / run / f"checkpoint-{5 + steps}").is_dir()
    global_steps = [e["global_step"] for e in headway.events(run) if e["event"] == "step_done"]
    assert global_steps == list(range(6, 6 + steps))


def test_a_second_file_is_trained_like_the_first(headway: Headway) -> None:
    headway.write("first.txt", "It was the best of times. " * 60)
    headway.write("second.txt", "It was the worst of times. " * 60)
    words = ["--max-length", 64, "--batch-size", 4, "--seed", 7, "--max-steps", 3]
    assert headway("train", "first.txt", *words).code == 0
    told = headway("train", "second.txt", "--continue", "first", "--weight-decay", 0.2)
    assert told.code == 0, told.err
    said = " ".join(told.out.replace(" ·", " ").split())
    assert "inherited max_length 64 batch_size 4 learning_rate 3e-3 seed 7 as in run first" in said
    plan = headway.plan("second")
    origins = {one["name"]: (one["value"], one["origin"]) for one in plan["settings"]}
    assert origins["max_length"] == (64, "run first")
    assert origins["batch_size"] == (4, "run first")
    assert origins["learning_rate"] == (3e-3, "run first")
    assert origins["seed"] == (7, "run first")
    assert origins["weight_decay"] == (0.2, "--weight-decay")
    assert plan["learning"]["peak"] == 3e-3
    assert plan["steps"]["num"] == plan["steps"]["per_epoch"] > 3  # its own length
    run_yaml = (headway.here / "runs/second/run.yaml").read_text()
    assert any(line.split() == ["max_length:", "64", "#", "run", "first"]
               for line in run_yaml.splitlines())  # fmt: skip
    again = headway("train", "second.txt", "--continue", "first", "--weight-decay", 0.2)
    assert "already trained, 0 new steps" in again.out


def test_moments_go_on_unless_fresh_ones_are_asked_for(first: Headway) -> None:
    first.write("more.jsonl", chats(8, "more"))
    for name, flags, updates in (("on", [], 7), ("fresh", ["--reset-optimizer"], 2)):
        told = first(
            "train", "more.jsonl", "--continue", "first", "--batch-size", 4, "--run-name", name,
            *flags,
        )  # fmt: skip
        assert told.code == 0, told.err
        state = json.loads((first.here / f"runs/{name}/model/headway.json").read_text())
        assert state["optimizer_steps"] == updates
        assert state["global_step"] == 7


def test_a_checkpoint_of_ours_given_as_model_goes_on_too(first: Headway) -> None:
    first.write("other.jsonl", chats(8, "other"))
    told = first("train", "other.jsonl", "--model", Path("runs/first/model"), "--batch-size", 4)
    assert told.code == 0, told.err
    assert first.receipt("other")["steps"]["last"] == 7
