"""One weight hash for any number of workers and groups: texts, conversations, adapters, odd ends.

The whole table takes long and is a campaign; one row of it is in every run of the tests.
"""

import argparse
import hashlib
import json
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.helpers import save_model

from .conftest import Headway

LAYOUTS = ((1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (8, 1), (8, 3))


@dataclass(frozen=True)
class Case:
    """What is trained, and by how many workers in how many groups."""

    words: tuple[str, ...]
    layouts: tuple[tuple[int, int], ...] = LAYOUTS


TEXT = ("text.txt", "--preset", "tiny", "--max-length", "64", "--batch-size", "256")
MINI = ("text.txt", "--preset", "mini", "--max-length", "128", "--batch-size", "128")
CHATS = ("chats.jsonl", "--batch-size", "400", "--max-length", "128", "--assistant-only-loss")
CASES = {
    "text": Case((*TEXT, "--max-steps", "4")),
    "text, an epoch that ends in a small step": Case((*TEXT, "--epochs", "2", "--max-steps", "7")),
    "text, bf16": Case((*TEXT, "--max-steps", "3", "--bf16")),
    "conversations": Case((*CHATS, "--preset", "tiny", "--max-steps", "3")),
    "conversations, adapters with dropout": Case(
        (*CHATS, "--model", "base", "--lora", "--lora.lora_dropout", "0.1", "--max-steps", "3")
    ),
    "mini": Case((*MINI, "--max-steps", "2"), ((1, 1), (2, 1), (4, 2))),
}


@pytest.fixture
def folder(headway: Headway) -> Headway:
    """Real text, conversations of very different lengths, and a base model."""
    sources = [Path(module.__file__ or "") for module in (argparse, typing)]
    headway.write("text.txt", "\n".join(path.read_text() for path in sources)[:48_000])
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"What is {number} times {number % 7}?"},
                {"role": "assistant", "content": "It is " + "so " * (number % 23) + str(number)},
            ]
        }
        for number in range(1_111)
    ]
    headway.write("chats.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    save_model(headway.here / "base")
    return headway


def bits(headway: Headway, run: str) -> str:
    """A hash of the weights and the moments of a run's newest checkpoint."""
    total = hashlib.sha256()
    for path in sorted((headway.here / "runs" / run / "model").resolve().glob("*.safetensors")):
        total.update(path.read_bytes())
    return total.hexdigest()


def trained(headway: Headway, case: Case, layout: tuple[int, int]) -> str:
    workers, groups = layout
    run = f"{workers}-in-{groups}"
    words = [*case.words, "--threads", "1", "--nproc", str(workers), "--groups", str(groups)]
    words += [] if "--bf16" in words else ["--no-bf16"]  # not what each run finds to be faster
    done = headway("train", *words, "--run-name", run)
    assert done.code == 0, done.err
    receipt = headway.receipt(run)
    assert len(receipt["workers"]) == (workers if workers > 1 else 0)
    assert receipt["rows"]["missing"] == receipt["rows"]["repeated"] == 0
    return bits(headway, run)


@pytest.mark.chaos
@pytest.mark.parametrize("name", CASES)
def test_f53_p01_the_bits_are_those_of_one_process(folder: Headway, name: str) -> None:
    case = CASES[name]
    hashes = {layout: trained(folder, case, layout) for layout in case.layouts}
    assert len(set(hashes.values())) == 1, hashes


def test_adapters_with_dropout_have_the_bits_of_one_process(folder: Headway) -> None:
    case = CASES["conversations, adapters with dropout"]
    assert trained(folder, case, (3, 2)) == trained(folder, case, (1, 1))
