"""Saved models: none, lost steps, unchanged, zero, NaN, damaged; and what is on purpose."""

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

from headway.base.errors import Cause, Finding
from headway.guard.judge.rules.models import models
from headway.guard.judge.traces.case import read_case


def found(folder: Path, *command: str, **fields: Any) -> list[Finding]:
    return list(models(read_case(facts_of(folder, *command, **fields))))


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        (("train.py",), ["warning"]),
        (("train.py", "--save_steps", "5"), ["refused"]),
        (("train.py", "--save_steps", "5", "--save_strategy", "no"), ["warning"]),
        (("train.py", "--push_to_hub"), []),
    ],
)
def test_training_that_leaves_no_model(
    tmp_path: Path, command: tuple[str, ...], kinds: list[str]
) -> None:
    assert [f.kind for f in found(tmp_path, *command, records=losses_of(2.0, 1.0))] == kinds
    assert found(tmp_path, *command) == [], "nothing shows that it trained"
    assert found(tmp_path, *command, records=losses_of(2.0), exit_code=1) == []
    (tmp_path / "model.npz").write_bytes(b"1")
    assert found(tmp_path, *command, records=losses_of(2.0)) == [], "it may be a model"


def test_weights_that_stood_still(tmp_path: Path) -> None:
    for step in (5, 10):
        archive(tmp_path / f"checkpoints/step_{step}.pt", b"12345678")
    (finding,) = found(tmp_path)
    assert finding.kind == "refused"
    assert "checkpoints/step_10.pt, all equal to those of checkpoints/step_5.pt" in finding.have
    archive(tmp_path / "checkpoints/step_10.pt", b"1234567.")
    assert found(tmp_path) == []


def test_weights_of_nan_equal_each_other_and_did_move(tmp_path: Path) -> None:
    for step in (5, 10):
        archive(tmp_path / f"checkpoints/step_{step}.pt", floats(math.nan))
    assert found(tmp_path, records=losses_of(2.0, math.nan, math.nan)) == []


def test_a_model_that_holds_nan(tmp_path: Path) -> None:
    tensors = {"mask": floats(-math.inf), "w": floats(1.0, math.nan), "v": floats(1)}
    safetensors(tmp_path / "out/checkpoint-5/model.safetensors", {"w": floats(1.0, 2.0)})
    safetensors(tmp_path / "out/checkpoint-10/model.safetensors", tensors)
    (finding,) = found(tmp_path)
    assert (finding.kind, finding.cause) == ("refused", Cause.WEIGHTS_NOT_FINITE)
    assert "1 of 3 tensors, such as w" in finding.have


@pytest.mark.parametrize(
    ("moved", "kinds"), [((0, 0), ["refused"]), ((0, 1), ["warning"]), ((1, 1), [])]
)
def test_an_adapter_whose_b_is_zero(
    tmp_path: Path, moved: tuple[int, int], kinds: list[str]
) -> None:
    tensors = {f"layers.{at}.lora_A.weight": floats(1, 2) for at in range(2)}
    tensors |= {f"layers.{at}.lora_B.weight": floats(0, moved[at]) for at in range(2)}
    safetensors(tmp_path / "out/adapter_model.safetensors", tensors)
    assert [finding.kind for finding in found(tmp_path)] == kinds


def test_a_file_that_was_not_written_to_its_end(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "out/checkpoint-5/model.safetensors", {"w": floats(1, 2)})
    path.write_bytes(path.read_bytes()[:-3])
    (finding,) = found(tmp_path)
    assert (finding.kind, finding.cause) == ("refused", Cause.WEIGHTS_DAMAGED)
    assert "out/checkpoint-5/model.safetensors" in finding.what


def test_steps_after_the_last_checkpoint(tmp_path: Path) -> None:
    state(tmp_path / "out/checkpoint-10/trainer_state.json", 10, 30)
    safetensors(tmp_path / "out/checkpoint-10/model.safetensors", {"w": floats(1)})
    (finding,) = found(tmp_path, records=losses_of(*falling(25)))
    assert finding.kind == "warning"
    assert "last 15 steps" in finding.what
    safetensors(tmp_path / "out/model.safetensors", {"w": floats(1)})
    assert found(tmp_path, records=losses_of(*falling(25))) == [], "the last one was saved apart"


def test_models_from_before_are_not_judged(tmp_path: Path) -> None:
    for step in (5, 10):
        safetensors(tmp_path / f"out/checkpoint-{step}/model.safetensors", {"w": floats(math.nan)})
    started = age(tmp_path)
    assert found(tmp_path, started_s=started) == []
