"""Real trainers under `headway guard`: healthy, hanging, and finishing without having trained.

Tiny models, nothing downloaded. Five trainers in three variants each; the silent failures run in
every suite, all fifteen in `make chaos`.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

SCRIPTS = Path(__file__).parent / "scripts"
HEADWAY = (sys.executable, "-m", "headway")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def rows(path: Path, number: int, step: int) -> Path:
    texts = (" ".join(WORDS[(at * step + n) % 10] for n in range(6)) for at in range(number))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows(tmp_path / "a.jsonl", 80, 3)
    rows(tmp_path / "b.jsonl", 72, 7)
    return tmp_path


def start(folder: Path, script: str, *arguments: str, options: str = "") -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*HEADWAY, "guard", *options.split(), "--", sys.executable, SCRIPTS / script, *arguments],
        cwd=folder,
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def guard(folder: Path, script: str, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Run a script to its end: exit code, what was said, and the record."""
    _, said = (running := start(folder, script, *arguments)).communicate()
    newest = max((folder / "runs").glob("*/guard.json"), key=lambda path: path.stat().st_mtime_ns)
    return running.returncode, said, json.loads(newest.read_bytes())


def refused(record: dict[str, Any]) -> list[str]:
    return [one["what"] for one in record["findings"] if one["kind"] == "refused"]


def test_a_second_file_of_a_trainer_that_trains_nothing_is_explained(folder: Path) -> None:
    """Incident B with an unmodified script: the first file trains, the second takes 0 steps."""
    code, _, record = guard(folder, "trainer.py", "a.jsonl")
    assert (code, record["findings"], record["stalls"]) == (0, [], [])
    code, said, record = guard(folder, "trainer.py", "b.jsonl", "--resume")
    assert (code, record["own_exit_code"]) == (4, 0)
    assert "finished without training: 0 steps" in said
    text = " ".join(said.split())
    assert "out/checkpoint-20 is at step 20, 1 epoch of 20 steps" in text
    assert "num_train_epochs 1 over this command's data leads to step 18" in text
    (line,) = re.findall(r"try +(headway train .*)", said)
    assert line == "headway train b.jsonl --model out/checkpoint-20"
    program, verb, *rest = shlex.split(line)
    assert (program, verb) == ("headway", "train")
    planned = subprocess.run([*HEADWAY, "plan", *rest, "--json"], cwd=folder, capture_output=True)
    assert planned.returncode == 0, planned.stderr.decode()


@pytest.mark.parametrize(
    ("script", "arguments", "what"),
    [
        ("trl_sft.py", ("a.jsonl", "--plant", "masked"), "the loss is 0.0 throughout"),
        ("lightning_fit.py", ("--plant", "zero_rate"), "the weights did not change"),
        ("accelerate_loop.py", ("--plant", "other_parameters"), "the weights did not change"),
        ("plain_torch.py", ("--plant", "nan"), "the loss is nan from step 6"),
    ],
)
def test_a_silent_failure_is_exit_code_4(
    folder: Path, script: str, arguments: tuple[str, ...], what: str
) -> None:
    code, said, record = guard(folder, script, *arguments)
    assert (code, record["own_exit_code"]) == (4, 0), said
    assert what in refused(record)
    assert record["stalls"] == []


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("trainer.py", ("a.jsonl",)),
        ("trl_sft.py", ("a.jsonl",)),
        ("lightning_fit.py", ()),
        ("accelerate_loop.py", ()),
        ("plain_torch.py", ()),
    ],
)
def test_a_healthy_run_is_left_alone(folder: Path, script: str, arguments: tuple[str, ...]) -> None:
    code, said, record = guard(folder, script, *arguments)
    assert (code, record["findings"], record["stalls"]) == (0, [], []), said


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("script", "arguments", "cause"),
    [
        # A loader that sleeps may wake up: it is named, and not yet called a stall.
        ("trainer.py", "a.jsonl --plant frozen_loader", r"loader .* Rows.__getitem__ \(trainer.py"),
        ("trl_sft.py", "a.jsonl --plant deadlock", r"deadlock.* Deadlock.on_step_end \(trl_sft"),
        ("lightning_fit.py", "--plant queue", r"deadlock.* Words.training_step \(lightning_fit"),
        ("accelerate_loop.py", "--plant stopped_loader", r"(loader|stopped)"),
        ("plain_torch.py", "--plant stdin", r"input"),
    ],
)
def test_a_hang_is_named(folder: Path, script: str, arguments: str, cause: str) -> None:
    running = start(folder, script, *arguments.split(), options="--stall-after 6")
    assert running.stderr
    lines: list[str] = []
    while not any("no progress" in one for one in lines) or not lines[-1].startswith("  try"):
        lines.append(running.stderr.readline())
        assert lines[-1], f"it ended without a stall:\n{''.join(lines)}"
    # A trainer that hangs seldom follows a polite request: Lightning waits for its next step.
    for one in psutil.Process(running.pid).children(recursive=True):
        if script in " ".join(one.cmdline()) and HEADWAY[2] not in one.cmdline():
            one.kill()
    _, more = running.communicate()
    said = "".join(lines) + more
    about = " ".join(said[said.index("no progress") :].split())
    assert re.search(cause, about), said
    assert running.returncode == 137
    (path,) = (folder / "runs").glob("*/guard.json")
    assert refused(json.loads(path.read_bytes())) == [], "what was killed has no target to miss"
