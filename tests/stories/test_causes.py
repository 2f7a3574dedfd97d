"""Nothing is decided by a sentence: with every message scrambled, each failure ends as it did.

In every process of a command, what a refusal says is replaced by random text the moment the
refusal is made. What the program does about it may depend on causes and types alone.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.failures.small_disk import small_disk
from tests.mutants import site

from .conftest import Headway

MARK = "scrambled-"
SCRAMBLED = """
import secrets, sys
from headway.base import errors

def scramble():
    return "scrambled-" + secrets.token_hex(8)

real = errors.Refusal.__init__
def made(self, what, *, cause=None, have="", need="", remedies=()):
    given = tuple(errors.Remedy(scramble(), scramble()) for _ in remedies)
    real(self, scramble(), cause=cause, have=scramble(), need=scramble(), remedies=given)
errors.Refusal.__init__ = made
"""
IN_WORKER = "if 'headway.training.worker' in sys.orig_argv:\n"
# A program that decides by a sentence: what this test must notice.
BY_SENTENCE = """
from headway.base import errors
by_type = errors.exit_code
errors.exit_code = lambda r: by_type(r) if "nowhere.txt" in getattr(r, "what", "") else 1
"""
TEXT = "All work and no play makes Jack a dull boy. " * 60
SMALL = ("--preset", "tiny", "--max-length", 32)


def processes(headway: Headway, name: str, code: str, *, in_worker: str = "") -> dict[str, str]:
    """An environment in which every process runs `code` first, and the trainer `in_worker` too."""
    folder = headway.here.parent / f"{headway.here.name}-{name}"
    folder.mkdir()
    lines = in_worker.strip().splitlines() or ["pass"]
    code += "\nimport sys\n" + IN_WORKER + "".join(f"    {line}\n" for line in lines)
    (folder / "sitecustomize.py").write_text(site(code))
    path = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(path)}


def text(headway: Headway) -> None:
    headway.write("notes.txt", TEXT)


def nothing(_: Headway) -> None: ...


def short(headway: Headway) -> None:
    headway.write("notes.txt", "All work and no play.")


def masked(headway: Headway) -> None:
    row = {"messages": [{"role": "user", "content": "is anybody there?"}]}
    headway.write("chats.jsonl", (json.dumps(row) + "\n") * 8)


def run_exists(headway: Headway) -> None:
    text(headway)
    folder = headway.here / "runs" / "notes"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("")
    (folder / "plan.json").write_text(headway("plan", "notes.txt", *SMALL, "--json").out)
    checkpoint = folder / "checkpoint-1"
    checkpoint.mkdir()
    (checkpoint / "manifest.json").write_text("{}")


@dataclass(frozen=True)
class Story:
    """What is typed, and how it ends."""

    code: int
    words: tuple[object, ...]
    prepare: Callable[[Headway], None] = text
    mutant: str = ""


REFUSED = {
    "an unknown setting": Story(2, ("plan", "notes.txt", "--lrr", "1")),
    "an unknown command": Story(2, ("trian", "notes.txt"), nothing),
    "a missing file": Story(2, ("plan", "nowhere.txt"), nothing),
    "too little data": Story(3, ("plan", "notes.txt", "--max-length", 512, "--exact"), short),
    "all labels masked": Story(3, ("plan", "chats.jsonl", "--preset", "tiny"), masked),
    "no such device": Story(5, ("plan", "notes.txt", "--device", "cuda")),
    "no such run": Story(2, ("status", "nobody"), nothing),
    "no checkpoint": Story(2, ("generate", "notes"), run_exists),
    "the run exists": Story(
        2, ("train", "notes.txt", *SMALL, "--run-name", "notes", "--lr", "0.5"), run_exists
    ),
}
FAILED = {
    "a rate that leads to NaN": Story(
        4, ("train", "notes.txt", *SMALL, "--lr", "1e30", "--max-steps", 4)
    ),
    "no gradient": Story(
        4,
        ("train", "notes.txt", *SMALL, "--max-steps", 2),
        mutant="import torch\n"
        "backward = torch.Tensor.backward\n"
        "torch.Tensor.backward = lambda self, *a, **k: backward(self * 0, *a, **k)",
    ),
    "an update that is skipped": Story(
        4,
        ("train", "notes.txt", *SMALL, "--max-steps", 2),
        mutant="import torch\ntorch.optim.AdamW.step = lambda self, closure=None: None",
    ),
}


def ends_alike(headway: Headway, story: Story) -> None:
    """Type it as it is and with every message scrambled."""
    story.prepare(headway)
    plain = headway(*story.words)
    assert plain.code == story.code, plain.out + plain.err
    assert MARK not in plain.out + plain.err
    scrambled = headway(*story.words, **processes(headway, "scrambled", SCRAMBLED))
    assert scrambled.code == story.code, scrambled.out + scrambled.err
    assert MARK in scrambled.err
    assert "Traceback" not in scrambled.err


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_ends_as_it_does_whatever_it_says(headway: Headway, name: str) -> None:
    ends_alike(headway, REFUSED[name])


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_run_ends_as_it_does_whatever_it_says(headway: Headway, name: str) -> None:
    story = FAILED[name]
    story.prepare(headway)
    environment = processes(headway, "scrambled", SCRAMBLED, in_worker=story.mutant)
    told = headway(*story.words, **environment)
    assert told.code == story.code, told.out + told.err
    assert headway.events("notes")[-1]["exit_code"] == story.code
    receipt = headway.receipt("notes")
    assert receipt["contract"]["verdict"] == "broken"
    not_finite = int(name == "a rate that leads to NaN")
    assert receipt["learning_facts"]["nonfinite_steps"] == not_finite
    if not_finite:
        assert MARK in told.err


def test_damaged_checkpoints_end_with_5_whatever_is_said(headway: Headway) -> None:
    text(headway)
    words = ("train", "notes.txt", *SMALL, "--max-steps", 100_000, "--max-time", "1s")
    environment = processes(headway, "scrambled", SCRAMBLED)
    assert headway(*words, **environment).code == 75
    checkpoints = [*(headway.here / "runs" / "notes").glob("checkpoint-*")]
    assert checkpoints
    for checkpoint in checkpoints:
        os.truncate(checkpoint / "model.safetensors", 1000)
    told = headway(*words, **environment)
    assert told.code == 5, told.out + told.err
    assert MARK in told.err


def test_a_full_disk_ends_with_5_whatever_is_said(headway: Headway) -> None:
    place = headway.here / "small"
    place.mkdir()
    text(headway)
    with small_disk(place, "-t tmpfs -o size=256k none") as disk:
        headway.before = [*disk.enter[:-1], f"--chdir={headway.here}"]
        words = ("train", "notes.txt", *SMALL, "--max-steps", 2, "--output-dir", "small/runs")
        told = headway(*words, **processes(headway, "scrambled", SCRAMBLED))
    assert told.code == 5, told.out + told.err
    assert MARK in told.err


def test_a_program_that_decides_by_a_sentence_is_noticed(headway: Headway, tmp_path: Path) -> None:
    bad = REFUSED["a missing file"]
    by_sentence = headway(*bad.words, **processes(headway, "bad", BY_SENTENCE))
    assert by_sentence.code == bad.code
    both = SCRAMBLED + BY_SENTENCE
    assert headway(*bad.words, **processes(headway, "both", both)).code == 1
