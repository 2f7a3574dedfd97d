"""Commands that leave no sign of training, and counts that end before their total."""

from pathlib import Path
from typing import Any

import pytest
from tests.guard.judge.left import archive, facts_of, losses_of, state

from headway.guard.facts import ProgressRecord
from headway.guard.judge.rules.unproven import stopped_short, unproven
from headway.guard.judge.traces.case import read_case


@pytest.mark.parametrize(
    ("command", "fields", "is_told"),
    [
        ("python train.py", {}, True),
        ("python train.py", {"exit_code": 1}, False),
        ("python train.py", {"records": losses_of(2.0)}, False),
        ("python train.py", {"records": (ProgressRecord(1.0, step=3),)}, False),
        ("python train.py", {"records": (ProgressRecord(1.0, epoch=1.0),)}, True),
        ("python script.py", {}, False),
        ("python prepare_training_data.py", {}, False),
        ("python eval.py", {}, False),
    ],
)
def test_silent_commands(
    tmp_path: Path, command: str, fields: dict[str, Any], *, is_told: bool
) -> None:
    found = list(unproven(read_case(facts_of(tmp_path, *command.split(), **fields))))
    assert [one.kind for one in found] == ["warning"] * is_told


def test_a_silent_script_that_saves_a_model_is_taken_at_its_word(tmp_path: Path) -> None:
    """One that tells of epochs and of no step had perhaps not a single batch."""
    archive(tmp_path / "model.pt", b"1234")
    assert list(unproven(read_case(facts_of(tmp_path, "python", "train.py")))) == []
    epochs = (ProgressRecord(1.0, epoch=1.0), ProgressRecord(2.0, epoch=2.0))
    (finding,) = unproven(read_case(facts_of(tmp_path, "python", "train.py", records=epochs)))
    assert "1 model" in finding.have


@pytest.mark.parametrize(
    ("step", "callbacks", "is_told"),
    [(37, {}, True), (100, {}, False), (37, {"EarlyStoppingCallback": {}}, False)],
)
def test_a_run_that_ends_before_its_target(
    tmp_path: Path, step: int, callbacks: dict[str, Any], *, is_told: bool
) -> None:
    state(tmp_path / "trainer_state.json", step, 100, stateful_callbacks=callbacks)
    found = list(stopped_short(read_case(facts_of(tmp_path))))
    assert [one.kind for one in found] == ["warning"] * is_told
