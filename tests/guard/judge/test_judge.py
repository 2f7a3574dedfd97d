"""The verdict as a whole: the worst first, nothing twice, and nothing about healthy commands."""

import math
from pathlib import Path
from typing import Any

import pytest
from tests.guard.judge.left import (
    age,
    archive,
    facts_of,
    falling,
    floats,
    losses_of,
    safetensors,
    state,
)

from headway.base.process_id import ProcessId
from headway.guard.facts import Orphan, ProgressRecord
from headway.guard.judge.judge import judge


def test_a_healthy_trainer_is_left_alone(tmp_path: Path) -> None:
    for step in (10, 20):
        state(tmp_path / f"out/checkpoint-{step}/trainer_state.json", step, 20)
        safetensors(tmp_path / f"out/checkpoint-{step}/model.safetensors", {"w": floats(step)})
    assert judge(facts_of(tmp_path, records=losses_of(*falling(20)))) == ()


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("python plain_train.py", {"records": losses_of(*falling())}),
        ("python evaluate.py", {"records": (ProgressRecord(1.0, loss=2.0, is_evaluation=True),)}),
        ("python prepare_data.py", {"records": (ProgressRecord(1.0, step=0, is_bar=True),)}),
        ("python prepare_train.py", {"records": losses_of(0.0, 0.0)}),
        ("headway train a.jsonl", {}),
        ("python -m headway train a.jsonl", {}),
        ("ls -l", {}),
        ("python script.py", {"records": (), "num_lines": 3}),
    ],
)
def test_what_is_on_purpose_is_not_accused(
    tmp_path: Path, command: str, fields: dict[str, Any]
) -> None:
    archive(tmp_path / "model.pt", b"1234")
    assert judge(facts_of(tmp_path, *command.split(), **fields)) == ()


def test_zero_steps_are_the_one_thing_to_say(tmp_path: Path) -> None:
    state(tmp_path / "out/checkpoint-20/trainer_state.json", 20, 20)
    started = age(tmp_path)
    closing = ProgressRecord(1.0, loss=0.0, run_seconds=0.001)
    bar = ProgressRecord(0.5, step=0, total=18, is_bar=True)
    found = judge(facts_of(tmp_path, started_s=started, records=(bar, closing)))
    assert [one.kind for one in found] == ["refused"]
    assert "0 steps" in found[0].what


def test_the_worst_comes_first(tmp_path: Path) -> None:
    orphan = Orphan(ProcessId(7, 1), ("python",))
    found = judge(facts_of(tmp_path, records=losses_of(2.0, math.nan), orphans=(orphan,)))
    assert [one.kind for one in found] == ["refused", "warning", "warning"]
    assert all(one.what and one.have and one.need and one.remedies for one in found)


@pytest.mark.parametrize("odd", ["\x00", "{", "[" * 10_000, '{"global_step": "x"}'])
def test_odd_files_are_no_error(tmp_path: Path, odd: str) -> None:
    for name in (
        *("trainer_state.json", "model.safetensors", "a.pt", "events.out.tfevents.1"),
        *("out/checkpoint-1/trainer_state.json", "config.yaml"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(odd)
    found = judge(facts_of(tmp_path, "train.py", "config.yaml", records=losses_of(2.0)))
    assert {one.kind for one in found} <= {"refused", "warning"}


@pytest.mark.parametrize("odd", ["x" * 5000, "x" * 5000 + ".json", "a\x00b", "a\x00b.json", "/"])
def test_arguments_that_can_be_no_path_hide_nothing(tmp_path: Path, odd: str) -> None:
    options = ("resume_from_checkpoint", "output_dir", "model", "data")
    command = ("python", "train.py", odd, *(f"--{name}={odd}" for name in options))
    (finding, *_) = judge(facts_of(tmp_path, *command, records=losses_of(2.0, math.nan, math.nan)))
    assert finding.kind == "refused"
