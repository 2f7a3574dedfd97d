"""Again, other data, `--fresh`, Ctrl+C, SIGTERM, kill: nothing is lost or mixed up."""

import json
import os
import signal
from pathlib import Path

import pytest

from .conftest import Headway, running, until, worker_of

TEXT = "It was the best of times, it was the worst of times. " * 120
SMALL = ["--max-length", "64", "--batch-size", "4"]


def weights(headway: Headway, run: str) -> dict[str, str]:
    """The hashes of what a run's newest checkpoint holds."""
    manifest = json.loads((headway.here / f"runs/{run}/model/manifest.json").read_text())
    names = ("model.safetensors", "optimizer.safetensors")
    return {name: manifest["files"][name]["sha256"] for name in names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Headway:
    """What was trained for four epochs, as run tale, and nobody disturbed."""
    whole = Headway(tmp_path_factory.mktemp("whole"), cache)
    whole.write("tale.txt", TEXT)
    done = whole("train", "tale.txt", *SMALL, "--epochs", "4")
    assert done.code == 0, done.err
    return whole


def test_a_finished_run_is_not_trained_again(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    first = headway("train", "tale.txt", *SMALL, "--max-steps", 3)
    assert first.code == 0, first.err
    before = weights(headway, "tale")
    again = headway("train", "tale.txt", *SMALL, "--max-steps", 3)
    assert again.code == 0, again.err
    assert "already trained, 0 new steps" in again.out
    assert headway.receipt("tale")["line"] in " ".join(again.out.split())
    assert weights(headway, "tale") == before
    assert not (headway.here / "runs/tale-2").exists()


def test_other_settings_make_a_second_run_and_say_what_differs(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    assert headway("train", "tale.txt", *SMALL, "--max-steps", 2).code == 0
    told = headway("train", "tale.txt", *SMALL, "--max-steps", 3)
    assert told.code == 0, told.err
    assert "other settings (max_steps 2)" in " ".join(told.out.split())
    assert headway.receipt("tale-2")["steps"]["applied"] == 3


def test_a_new_file_in_a_folder_is_offered_on_top_of_the_run(headway: Headway) -> None:
    headway.write("inbox/a.txt", TEXT)
    assert headway("train", "inbox/", *SMALL, "--max-steps", 2).code == 0
    headway.write("inbox/b.txt", "It was the age of wisdom, it was the age of foolishness. " * 40)
    told = headway("train", "inbox/", *SMALL, "--max-steps", 2)
    assert told.code == 0, told.err
    said = " ".join(told.out.split())
    assert "run inbox has trained 1 of these files already" in said
    line = "headway train inbox/b.txt --continue inbox --run-name inbox-2"
    assert f"try {line}" in said
    # Typed as it stands, instead of that: only the new file, as the first one was trained.
    typed = headway(*line.split()[1:], "--fresh")
    assert typed.code == 0, typed.err
    plan = headway.plan("inbox-2")
    assert plan["data"]["sources"] == ["inbox/b.txt"]
    assert (plan["steps"]["first"], plan["data"]["max_length"]) == (2, 64)
    headway.write("inbox/c.txt", "It was the season of Light, it was the season of Darkness. " * 40)
    third = headway("train", "inbox/", *SMALL, "--max-steps", 2)
    assert "headway train inbox/c.txt --continue inbox-2 --run-name inbox-3" in " ".join(
        third.out.split()
    )


def test_a_named_run_is_never_mixed_with_another(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    named = ["--run-name", "mine"]
    assert headway("train", "tale.txt", *SMALL, "--max-steps", 2, *named).code == 0
    told = headway("train", "tale.txt", *SMALL, "--max-steps", 3, *named)
    assert told.code == 2
    assert "run mine already exists with a different plan" in told.err
    assert "--fresh" in told.err
    fresh = headway("train", "tale.txt", *SMALL, "--max-steps", 3, *named, "--fresh")
    assert fresh.code == 0, fresh.err
    assert headway.receipt("mine")["steps"]["applied"] == 3
    assert len(list((headway.here / "runs").glob("mine.old-*"))) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_saves_and_the_same_command_ends_with_the_same_bits(
    headway: Headway, undisturbed: Headway, number: signal.Signals, code: int
) -> None:
    headway.write("tale.txt", TEXT)
    words = ["train", "tale.txt", *SMALL, "--epochs", "4"]
    process = headway.start(*words)
    until(lambda: any(e["event"] == "step_done" for e in headway.events("tale")))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code, err
    receipt = headway.receipt("tale")
    done = receipt["steps"]["applied"]
    assert receipt["outcome"] == "interrupted"
    assert receipt["contract"]["verdict"] == "kept"
    assert 1 <= done < receipt["steps"]["planned"]
    assert (headway.here / f"runs/tale/checkpoint-{done}").is_dir()
    assert "saved" in out.strip().splitlines()[-1]

    again = headway(*words)
    assert again.code == 0, again.err
    assert "resumed from checkpoint-" in again.out
    resumed = headway.receipt("tale")
    assert resumed["attempts"] == 2
    assert resumed["contract"]["verdict"] == "kept"

    whole = undisturbed.receipt("tale")
    assert weights(headway, "tale") == weights(undisturbed, "tale")
    assert resumed["rows"] == whole["rows"]
    assert resumed["learning_facts"]["train_probe"] == whole["learning_facts"]["train_probe"]


def test_after_a_kill_no_process_is_left_and_the_same_command_goes_on(
    headway: Headway, undisturbed: Headway
) -> None:
    headway.write("tale.txt", TEXT)
    words = ["train", "tale.txt", *SMALL, "--epochs", "4", "--save-steps", "5"]
    process = headway.start(*words)
    until(lambda: any(e["event"] == "saved" for e in headway.events("tale")))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    until(lambda: not any(map(running, children)), 2)
    assert headway("status", "--json").json["state"] == "died"
    again = headway(*words)
    assert again.code == 0, again.err
    assert "resumed from checkpoint-" in again.out
    assert headway.receipt("tale")["contract"]["verdict"] == "kept"
    assert weights(headway, "tale") == weights(undisturbed, "tale")


def test_a_killed_trainer_is_told_and_a_new_one_goes_on(
    headway: Headway, undisturbed: Headway
) -> None:
    headway.write("tale.txt", TEXT)
    words = ["train", "tale.txt", *SMALL, "--epochs", "4", "--save-steps", "5"]
    process = headway.start(*words)
    until(lambda: any(e["event"] == "saved" for e in headway.events("tale")))
    os.kill(worker_of(process.pid, 0), signal.SIGKILL)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    told = " ".join(out.split())
    assert "training tale was killed by SIGKILL: new workers continue from checkpoint-" in told
    assert headway.receipt("tale")["attempts"] == 2
    assert weights(headway, "tale") == weights(undisturbed, "tale")


def test_without_restarts_a_killed_trainer_is_told_and_the_run_can_go_on(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    words = ["train", "tale.txt", *SMALL, "--epochs", "4", "--save-steps", "5"]
    process = headway.start(*words, "--max-restarts", "0")
    until(lambda: any(e["event"] == "saved" for e in headway.events("tale")))
    (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 5
    assert "SIGKILL" in err
    assert "the same command again" in err
    assert headway(*words).code == 0


def test_stop_saves_and_max_time_too(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    process = headway.start("train", "tale.txt", *SMALL, "--epochs", "50")
    until(lambda: any(e["event"] == "step_done" for e in headway.events("tale")))
    told = headway("stop", "tale")
    assert told.code == 0
    assert "has stopped" in told.out
    assert process.wait(10) == 75
    limited = headway("train", "tale.txt", *SMALL, "--epochs", "60", "--max-time", "5s")
    assert limited.code == 75, limited.err
    assert headway.receipt("tale-2")["outcome"] == "interrupted"


def test_a_run_has_one_owner(headway: Headway) -> None:
    headway.write("tale.txt", TEXT)
    words = ["train", "tale.txt", *SMALL, "--epochs", "50"]
    process = headway.start(*words)
    until(lambda: any(e["event"] == "step_done" for e in headway.events("tale")))
    second = headway(*words)
    assert second.code == 75
    assert f"process {process.pid}" in second.err
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 130
