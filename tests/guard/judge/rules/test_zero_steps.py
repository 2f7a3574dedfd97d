"""Commands that report success without a step are found, with the reason where a state tells it."""

from pathlib import Path
from typing import Any

import pytest
from tests.guard.judge.left import (
    age,
    closing,
    facts_of,
    floats,
    history,
    losses_of,
    safetensors,
    state,
)

from headway.base.errors import Finding
from headway.guard.facts import GuardFacts, ProgressRecord
from headway.guard.judge.rules.zero_steps import zero_steps
from headway.guard.judge.traces.case import read_case

STATE = "trainer_state.json"
SPEED = "{'train_runtime': '0.0007', 'train_steps_per_second': '0', 'train_loss': '0'}"
CLOSING = ProgressRecord(2.0, epoch=1.0, loss=0.0, run_seconds=0.0007)


def bar(step: int, total: int | None = None, **fields: Any) -> ProgressRecord:
    return ProgressRecord(1.0, step=step, total=total, is_bar=True, **fields)


def found(facts: GuardFacts) -> list[Finding]:
    return list(zero_steps(read_case(facts)))


@pytest.fixture
def resumed(tmp_path: Path) -> float:
    """A folder with the checkpoint of an earlier file, step 20; the start of what comes after."""
    state(tmp_path / "out/checkpoint-20" / STATE, 20, 20)
    safetensors(tmp_path / "out/checkpoint-20/model.safetensors", {"w": floats(1)})
    for name in ("b.jsonl", "out/checkpoint-20/config.json", "out/checkpoint-20/tokenizer.json"):
        (tmp_path / name).touch()
    return age(tmp_path)


def test_a_second_file_behind_its_target_is_explained(tmp_path: Path, resumed: float) -> None:
    facts = facts_of(
        tmp_path,
        *("python", "script.py", "b.jsonl"),
        started_s=resumed,
        records=(bar(0, 18), CLOSING),
        tail=(SPEED,),
    )
    (finding,) = found(facts)
    assert finding.kind == "refused"
    assert "0 steps" in finding.what
    assert "out/checkpoint-20 is at step 20, 1 epoch of 20 steps" in finding.have
    assert "leads to step 18" in finding.have
    assert "num_train_epochs" in finding.need
    assert finding.remedies[0].do == "headway train b.jsonl --model out/checkpoint-20"


def test_what_the_script_saves_afterwards_is_no_step(tmp_path: Path, resumed: float) -> None:
    """`save_model` and `save_state` write files; the bar of an evaluation looks like training."""
    log = [*history(20, 20), closing(20, steps_per_second=0.0, loss=0.0)]
    state(tmp_path / "out" / STATE, 20, 18, log_history=log)
    safetensors(tmp_path / "out/model.safetensors", {"w": floats(1)})
    facts = facts_of(
        tmp_path,
        *("python", "script.py"),
        started_s=resumed,
        records=(bar(0, 18), CLOSING, bar(1, 5), bar(5, 5)),
    )
    (finding,) = found(facts)
    assert "out/trainer_state.json is still at step 20" in finding.have
    assert "step 18" in finding.have


def test_a_target_that_was_reached_before_is_told_as_such(tmp_path: Path, resumed: float) -> None:
    facts = facts_of(tmp_path, started_s=resumed, records=(bar(0, 20), CLOSING), tail=(SPEED,))
    (finding,) = found(facts)
    assert "is step 20 too" in finding.have


def test_without_a_bar_a_finished_checkpoint_is_what_explains_it(
    tmp_path: Path, resumed: float
) -> None:
    (finding,) = found(facts_of(tmp_path, started_s=resumed, records=(CLOSING,), tail=(SPEED,)))
    assert "out/checkpoint-20 is at step 20" in finding.have
    assert "if it resumed from there" in finding.have


def test_a_state_that_explains_nothing_is_not_blamed(tmp_path: Path, resumed: float) -> None:
    command = ("python", "train.py", "--resume_from_checkpoint", "out/checkpoint-20")
    short = facts_of(tmp_path, *command, started_s=resumed, records=(bar(0, 40), CLOSING))
    said = ("There seems not to be a single sample in your epoch_iterator, stopping",)
    empty = facts_of(tmp_path, *command, started_s=resumed, records=(bar(0, 9),), tail=said)
    for facts in (short, empty):
        (finding,) = found(facts)
        assert "checkpoint-20 stands" not in finding.have
        assert "batch" in finding.need


@pytest.mark.parametrize(
    "fields",
    [
        {"records": (CLOSING,), "tail": (SPEED,)},
        {"records": (bar(0, 18),)},
        {"records": (bar(0),)},
        {"records": (CLOSING,)},
        {"tail": ("`Trainer.fit` stopped: No training batches.",)},
        {"tail": ("There seems not to be a single sample in your epoch_iterator, stopping",)},
    ],
)
def test_other_signs_of_no_step(tmp_path: Path, fields: dict[str, Any]) -> None:
    (finding,) = found(facts_of(tmp_path, "python", "train.py", **fields))
    assert finding.kind == "refused"
    assert "0 steps" in finding.what


@pytest.mark.parametrize(
    "fields",
    [
        {"records": (bar(0, 18), bar(3, 18), CLOSING)},
        {"records": (bar(0, 18), *losses_of(2.5))},
        {"records": (ProgressRecord(9.0, loss=2.3, run_seconds=9.0),)},
        {"records": (bar(0, 18),), "exit_code": 1},
        {"records": (bar(0, 18),), "exit_code": 0, "was_asked_to_stop": True},
        {"records": (bar(0, 18),), "exit_code": 0, "was_ended": True},
        {"records": (bar(0, 7, what="Map"), bar(7, 7, what="Map"))},
        {},
    ],
)
def test_whatever_may_have_stepped_is_not_accused(tmp_path: Path, fields: dict[str, Any]) -> None:
    assert found(facts_of(tmp_path, "python", "train.py", **fields)) == []


@pytest.mark.parametrize(
    "command", ["python prepare.py", "python evaluate.py", "python script.py", "make data"]
)
def test_what_is_no_training_has_no_steps_to_miss(tmp_path: Path, command: str) -> None:
    facts = facts_of(tmp_path, *command.split(), records=(bar(0, 18),))
    assert found(facts) == []


def test_a_numbered_checkpoint_is_a_step(tmp_path: Path) -> None:
    safetensors(tmp_path / "out/checkpoint-5/model.safetensors", {"w": floats(1)})
    assert found(facts_of(tmp_path, records=(bar(0, 18),))) == []


def test_a_resumed_run_that_trained_on_is_not_accused(tmp_path: Path, resumed: float) -> None:
    state(tmp_path / "out/checkpoint-30" / STATE, 30, 40)
    facts = facts_of(tmp_path, started_s=resumed, records=(bar(0, 40), bar(30, 40)))
    assert found(facts) == []


def test_a_new_run_beside_a_further_checkpoint_is_not_accused(tmp_path: Path) -> None:
    """The folder is used again; the older checkpoint stands further than the new run went."""
    state(tmp_path / "out/checkpoint-500" / STATE, 500, 500)
    started = age(tmp_path)
    state(tmp_path / "out/checkpoint-10" / STATE, 10, 10)
    assert found(facts_of(tmp_path, started_s=started, records=(bar(0, 10), bar(10, 10)))) == []
