"""A model that does not fit one worker is trained in shards, and is an ordinary model then."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Headway, Result, until, worker_of

TEXT = "".join(f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(3000))
SHARDS = ["--nproc", "2", "--reduction", "hsdp", "--threads", "1"]
# 22 million weights: a worker takes 1.0 GB if it holds them all, 0.75 GB if it holds half of them.
LARGE = ["--preset", "small", "--max-length", "32", "--batch-size", "8", "--no-bf16"]
LIMIT_BYTES = 860_000_000


@pytest.fixture
def days(headway: Headway) -> Headway:
    headway.write("days.txt", TEXT)
    return headway


def receipt_of(headway: Headway, run: str) -> Any:
    return json.loads((headway.here / "runs" / run / "receipt.json").read_text())


def num_steps(folder: Path) -> int:
    log = folder / "events.jsonl"
    return log.read_text().count('"step_done"') if log.exists() else 0


def test_two_workers_train_what_has_no_room_in_one_and_transformers_loads_it(
    days: Headway,
) -> None:
    days.before = ["prlimit", f"--data={LIMIT_BYTES}"]
    train = ["train", "days.txt", *LARGE, "--max-steps", "3", "--threads", "1"]
    alone = days(*train, "--run-name", "alone")
    assert alone.code == 5, alone.out + alone.err
    assert "out of memory" in alone.out + alone.err
    shards = days(*train, *SHARDS, "--run-name", "shards")
    assert shards.code == 0, shards.out + shards.err
    told = receipt_of(days, "shards")
    assert told["contract"]["verdict"] == "kept"
    assert told["reduction"] == "hsdp"
    assert [worker["rows"] for worker in told["workers"]] == [12, 12]
    days.before = []
    assert days("verify", "shards").code == 0
    model = (days.here / "runs" / "shards" / "model").resolve()
    files = {file.name for file in model.rglob("*.safetensors")}
    listed = json.loads((model / "manifest.json").read_text())["files"]
    assert {Path(name).name for name in listed} >= files
    assert generated_by_transformers(model) != ""


def generated_by_transformers(model: Path) -> str:
    """What plain transformers makes of a folder."""
    script = (
        "import sys; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T\n"
        "words = T.from_pretrained(sys.argv[1]); model = M.from_pretrained(sys.argv[1])\n"
        "ids = words('The 7th day', return_tensors='pt').input_ids\n"
        "print(words.decode(model.generate(ids, max_new_tokens=8, do_sample=False)[0]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(model)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_killed_worker_is_named_and_the_run_goes_on_from_the_shards_that_were_saved(
    days: Headway,
) -> None:
    small = ["--preset", "tiny", "--max-length", "64", "--batch-size", "256"]
    steps = ["--max-steps", "8", "--save-steps", "3", "--no-bf16"]
    process = days.start("train", "days.txt", *small, *steps, *SHARDS, "--run-name", "killed")
    folder = days.here / "runs" / "killed"
    until(lambda: num_steps(folder) >= 4 and (folder / "checkpoint-3").is_dir())
    os.kill(worker_of(process.pid, rank=1), signal.SIGKILL)
    out, _ = process.communicate(timeout=200)
    assert "worker 1 of 2 (group 0) was killed by SIGKILL" in out
    assert process.returncode == 0, out
    told = receipt_of(days, "killed")
    assert told["contract"]["verdict"] == "kept"
    assert told["attempts"] == 2
    assert days("verify", "killed").code == 0


@pytest.mark.parametrize(
    "words", [["--nproc", "3", "--groups", "2"], ["--nproc", "2", "--torch-compile"]], ids=str
)
def test_shards_that_cannot_be_are_refused_with_what_can(days: Headway, words: list[str]) -> None:
    small = ["days.txt", "--preset", "tiny", "--reduction", "hsdp"]
    refused = days("plan", *small, *words)
    assert refused.code == 2
    for line in remedies(refused):
        assert days("plan", *small, *words, *line.split()).code == 0, line


def remedies(refused: Result) -> list[str]:
    """What to type, without what it gives."""
    lines = [line.strip() for line in refused.err.splitlines()]
    tries = [line.removeprefix("try").strip() for line in lines if line.startswith("try ")]
    return [line.split("   ")[0] for line in tries]
