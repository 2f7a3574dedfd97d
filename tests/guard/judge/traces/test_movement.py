"""Whether weights moved, from whatever can be compared."""

from pathlib import Path

from tests.guard.judge.left import age, archive, facts_of, floats, safetensors, state

from headway.guard.judge.traces.case import read_case
from headway.guard.judge.traces.movement import Movement


def movement(folder: Path, *command: str, started_s: float = 0.0) -> Movement:
    return read_case(facts_of(folder, *command, started_s=started_s)).movement


def test_equal_checkpoints_did_not_move(tmp_path: Path) -> None:
    for step in (5, 10):
        safetensors(tmp_path / f"out/checkpoint-{step}/model.safetensors", {"w": floats(1, 2)})
    assert movement(tmp_path) == Movement(
        False, tmp_path / "out/checkpoint-5", tmp_path / "out/checkpoint-10", 1
    )


def test_one_series_that_moved_is_enough(tmp_path: Path) -> None:
    for step in (5, 10):
        archive(tmp_path / f"text_encoder_{step}.pt", b"1234")
        archive(tmp_path / f"unet_{step}.pt", b"123%d" % (step // 5))
    assert movement(tmp_path).moved


def test_a_final_copy_of_a_checkpoint_is_no_proof(tmp_path: Path) -> None:
    safetensors(tmp_path / "out/checkpoint-5/model.safetensors", {"w": floats(1)})
    safetensors(tmp_path / "out/model.safetensors", {"w": floats(1)})
    assert movement(tmp_path).moved is None


def test_a_resumed_run_is_compared_with_what_it_resumed(tmp_path: Path) -> None:
    state(tmp_path / "out/checkpoint-5/trainer_state.json", 5, 10)
    safetensors(tmp_path / "out/checkpoint-5/model.safetensors", {"w": floats(1)})
    started = age(tmp_path)
    state(tmp_path / "out/checkpoint-10/trainer_state.json", 10, 10)
    safetensors(tmp_path / "out/checkpoint-10/model.safetensors", {"w": floats(1)})
    assert movement(tmp_path, started_s=started).moved is False
    safetensors(tmp_path / "out/checkpoint-10/model.safetensors", {"w": floats(2)})
    assert movement(tmp_path, started_s=started).moved


def test_a_frozen_body_with_a_new_head_is_no_model_that_stood_still(tmp_path: Path) -> None:
    safetensors(tmp_path / "base/model.safetensors", {"body": floats(1)})
    started = age(tmp_path)
    command = ("train.py", "--model_name_or_path", "base")
    safetensors(tmp_path / "out/model.safetensors", {"body": floats(1), "head": floats(2)})
    assert movement(tmp_path, *command, started_s=started).moved is None
    safetensors(tmp_path / "out/model.safetensors", {"body": floats(1)})
    assert movement(tmp_path, *command, started_s=started).moved is False
