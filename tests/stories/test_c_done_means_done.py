"""Incident C: "done" before the update, loss 0.0000, gradient 0.0. Now such a run fails, and why.

Each mutant changes the trainer from outside, as a bug of ours or of a library would.
"""

import argparse
import json
from pathlib import Path

import pytest

from .conftest import Headway

MUTANTS = {
    "the update is skipped": (
        "import torch\ntorch.optim.AdamW.step = lambda self, closure=None: None",
        "had a gradient but did not change",
    ),
    "the gradient is zeroed": (
        "import headway.training.step as step\n"
        "take = step.Stepper._take_gradients\n"
        "step.Stepper._take_gradients = lambda self: [0 * g for g in take(self)]",
        "has no gradient: it would change nothing",
    ),
    "the learning rate is 0 all run": (
        "import headway.training.optimizer as optimizer\n"
        "optimizer.learning_rate = lambda plan, step, num_steps: 0.0",
        "had a gradient but did not change",
    ),
    "everything is frozen": (
        "import headway.training.weights.initial_weights as start\n"
        "make = start.starting_model\n"
        "start.starting_model = lambda *a, **k: make(*a, **k).requires_grad_(False)",
        "this model has no trainable tensor",
    ),
    "the weights are written as zeros": (
        "import headway.training.weights.checkpoint as checkpoint\n"
        "take = checkpoint.Snapshot.take\n"
        "def zeroed(self):\n"
        "    take(self)\n"
        "    for tensor in self._weights.values():\n"
        "        tensor.zero_()\n"
        "checkpoint.Snapshot.take = zeroed",
        "the checkpoint differs from the trained weights in ",
    ),
    "the loss is NaN": (
        "import headway.model.forward as module\n"
        "loss = module.Forward.loss\n"
        "module.Forward.loss = lambda self, micro, num: loss(self, micro, num) * float('nan')",
        "is not finite; the step was not applied",
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_run_that_changes_nothing_ends_with_4_and_the_cause(
    headway: Headway, mutant: str
) -> None:
    code, cause = MUTANTS[mutant]
    headway.write("notes.txt", "All work and no play makes Jack a dull boy. " * 60)
    told = headway(
        "train", "notes.txt", "--max-length", 64, "--max-steps", 3,
        **headway.mutate("c", code),
    )  # fmt: skip
    assert told.code == 4, told.err + told.out
    assert cause in told.err
    assert "Traceback" not in told.err
    last = headway.events("notes")[-1]
    assert last["event"] == "ended"
    assert last["outcome"] in ("failed", "finished")
    assert "kept" not in last["line"].split(":")[0]


def test_a_step_is_told_after_its_update_and_before_the_next(headway: Headway) -> None:
    """The trainer's own record of its weights, taken whenever a step is told, changes each time."""
    headway.write("notes.txt", "All work and no play makes Jack a dull boy. " * 60)
    spy = (
        "import headway.training.attempt as attempt\n"
        "finish = attempt.Attempt._finish_step\n"
        "def spying(self, batch, report):\n"
        "    finish(self, batch, report)\n"
        "    weights = self.trainer.setup.parameters.values()\n"
        "    total = float(sum(p.detach().double().sum() for p in weights))\n"
        "    with open('weights.txt', 'a') as file:\n"
        "        file.write(f'{report.step} {total!r}\\n')\n"
        "attempt.Attempt._finish_step = spying"
    )
    told = headway(
        "train", "notes.txt", "--max-length", 64, "--max-steps", 5, **headway.mutate("spy", spy)
    )
    assert told.code == 0, told.err
    seen = [line.split() for line in (headway.here / "weights.txt").read_text().splitlines()]
    assert [int(step) for step, _ in seen] == [1, 2, 3, 4, 5]
    assert len({total for _, total in seen}) == 5
    steps = [e for e in headway.events("notes") if e["event"] == "step_done"]
    assert [e["step"] for e in steps] == [1, 2, 3, 4, 5]
    assert all(e["loss"] > 0 and e["grad_norm"] > 0 and e["learning_rate"] > 0 for e in steps)


def test_fully_masked_labels_are_refused_before_step_1(headway: Headway) -> None:
    row = {"messages": [{"role": "user", "content": "is anybody there?"}]}
    headway.write("chats.jsonl", (json.dumps(row) + "\n") * 8)
    told = headway("train", "chats.jsonl", "--preset", "tiny")
    assert told.code == 3
    assert "no trained token" in told.err
    assert "chats.jsonl:1" in told.err
    assert not (headway.here / "runs").exists()


def test_a_learning_rate_of_0_is_refused(headway: Headway) -> None:
    headway.write("notes.txt", "some text " * 100)
    told = headway("train", "notes.txt", "--lr", 0)
    assert told.code == 2
    assert "more than 0" in told.err


def test_a_root_three_groups_and_their_workers_end_when_they_are_done(headway: Headway) -> None:
    headway.write("code.txt", Path(argparse.__file__).read_text()[:24_000])
    words = ["--preset", "tiny", "--max-length", "64", "--batch-size", "64", "--threads", "1"]
    words += ["--epochs", "2", "--sample-steps", "4", "--nproc", "4", "--groups", "3"]
    done = headway("train", "code.txt", *words, "--run-name", "code")
    assert done.code == 0, done.err
    receipt, events = headway.receipt("code"), headway.events("code")
    steps = [event for event in events if event["event"] == "step_done"]
    assert len(steps) == receipt["steps"]["planned"] > 8
    assert {(one["groups"], one["all_groups"]) for one in steps} == {(3, 3)}
    assert {(one["workers"], one["all_workers"]) for one in steps} == {(4, 4)}
    assert all(one["grad_norm"] > 0 for one in steps)
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert steps[-1]["epoch"] == 2
    assert receipt["rows"]["applications"] == 2 * receipt["rows"]["accepted"]
    sampled = [event["global_step"] for event in events if event["event"] == "sampled"]
    assert set(range(4, len(steps), 4)) | {len(steps)} == set(sampled)
    order = [event["event"] for event in events if event["event"] in ("step_done", "sampled")]
    assert order[-1] == "sampled"  # after the last update, as after every other
    assert receipt["contract"]["verdict"] == "kept"
    assert headway("verify", "code").code == 0
