"""Verification of a watched receipt: each claim that the folder shows, and the others."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.base.errors import BrokenContract, Cause
from headway.base.events import Ended, EventLog, StepDone
from headway.base.files import hash_file
from headway.base.pulse import Pulse
from headway.runs.folder import RunFolder
from headway.runs.receipt import ReceiptSteps
from headway.runs.verification.verify import Verification, verify
from headway.runs.watched.watched_receipt import (
    SCHEMA,
    SeenCheckpoint,
    SeenFacts,
    SeenLearning,
    SeenRows,
    SeenTensors,
    SeenTime,
    SeenTokens,
    WatchedReceipt,
    change_of,
    judge_seen_contract,
    judge_seen_learning,
    seen_line,
)
from headway.runs.watched.watched_run import WatchedRun, WatchedSteps

NUM = 12


def steps() -> list[StepDone]:
    return [
        StepDone(n, 4 + n, 1, 3.0 - n / 10, 1.0, 1e-3, 4, 30, 40, 44, 0.5)
        for n in range(1, NUM + 1)
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A watched run whose receipt holds."""
    folder, checkpoint = tmp_path / "r", tmp_path / "out" / "checkpoint-16"
    folder.mkdir()
    checkpoint.mkdir(parents=True)
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(b"weights")
    WatchedRun("r", "callback", "Trainer", steps=WatchedSteps(4, NUM)).save(folder)
    losses = [step.loss for step in steps()]
    loss, averaged = change_of(losses, [4] * NUM)
    learned = SeenLearning(
        loss, averaged, None, losses[0], losses[-1], 1.0, 1.0, 0, 0, 1e-3, SeenTensors(9, 9, 9)
    )
    saved = SeenCheckpoint(str(checkpoint), 16, 7, {weights.name: hash_file(weights).sha256})
    facts = SeenFacts(
        "finished",
        "",
        ReceiptSteps(4, 16, NUM, NUM),
        SeenRows(48, 48, 48, 1, 1),
        SeenTokens(480, 360, 48),
        learned,
        saved,
    )
    contract, learning = judge_seen_contract(facts), judge_seen_learning(learned, NUM)
    receipt = WatchedReceipt(
        schema=SCHEMA,
        version="0",
        run="r",
        by="HeadwayCallback",
        program="Trainer",
        outcome=facts.outcome,
        why=facts.why,
        at="2026-11-30T00:00:00+00:00",
        steps=facts.steps,
        rows=facts.rows,
        tokens=facts.tokens,
        learning_facts=learned,
        time=SeenTime(9.0, 1.0, 0.5, 0.2, 0.1, 8.0),
        checkpoint=saved,
        not_seen=(),
        contract=contract,
        learning=learning,
        line=seen_line(facts, contract, learning),
    )
    receipt.save(folder)
    log = EventLog(folder / "events.jsonl")
    for step in steps():
        log.write(step)
    log.write(Ended("finished", 0, receipt.line))
    return RunFolder(folder)


def verified(run: RunFolder) -> Verification:
    return verify(run, Pulse())


def wrong(run: RunFolder) -> set[str]:
    return {claim.name for claim in verified(run).differences}


def test_a_receipt_that_holds_says_what_was_not_recomputed(run: RunFolder) -> None:
    found = verified(run)
    assert found.holds, found.differences
    assert {claim.name for claim in found.unchecked} == {"rows.distinct", "tensors.changed"}
    assert "checkpoint.sha256" in {claim.name for claim in found.claims}


def changed(*path: str, to: Any) -> Callable[[RunFolder], None]:
    def change(run: RunFolder) -> None:
        file = run.path / "receipt.json"
        receipt = msgspec.json.decode(file.read_bytes())
        inner = receipt
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = to
        file.write_bytes(msgspec.json.encode(receipt))

    return change


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (changed("steps", "applied", to=13), "steps.applied"),
        (changed("steps", "planned", to=13), "steps.planned"),
        (changed("steps", "first", to=3), "steps.first"),
        (changed("steps", "last", to=17), "steps.last"),
        (changed("rows", "applications", to=49), "rows.applications"),
        (changed("tokens", "trained", to=361), "tokens.trained"),
        (changed("tokens", "input", to=481), "tokens.input"),
        (changed("tokens", "padding", to=0), "tokens.padding"),
        (changed("learning_facts", "loss_first", to=9.0), "loss_first"),
        (changed("learning_facts", "loss_last", to=0.1), "loss_last"),
        (changed("learning_facts", "averaged", to=1), "averaged"),
        (changed("learning_facts", "loss", "after", to=0.1), "loss"),
        (changed("learning_facts", "rate_max", to=0.1), "rate_max"),
        (changed("contract", "verdict", to="broken"), "contract"),
        (changed("learning", "verdict", to="unclear"), "learning"),
        (changed("line", to="kept: everything"), "line"),
        (changed("outcome", to="interrupted"), "outcome"),
        (changed("checkpoint", "bytes", to=8), "checkpoint.bytes"),
        (changed("checkpoint", "sha256", to={}), "checkpoint.sha256"),
    ],
)
def test_a_claim_that_differs_is_named(
    run: RunFolder, change: Callable[[RunFolder], None], name: str
) -> None:
    change(run)
    assert name in wrong(run)


def test_weights_that_changed_since_are_noticed(run: RunFolder) -> None:
    (run.path.parent / "out" / "checkpoint-16" / "model.safetensors").write_bytes(b"Weights")
    assert wrong(run) == {"checkpoint.sha256"}


def test_a_checkpoint_that_is_gone_is_no_false_claim(run: RunFolder) -> None:
    checkpoint = run.path.parent / "out" / "checkpoint-16"
    checkpoint.rename(checkpoint.with_name("elsewhere"))
    found = verified(run)
    assert found.holds
    assert "checkpoint" in {claim.name for claim in found.unchecked}


def test_a_log_without_a_step_is_noticed(run: RunFolder) -> None:
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(lines[:3] + lines[4:]))
    assert "steps.applied" in wrong(run)


def test_a_log_that_was_cut_off_leaves_the_outcome_open(run: RunFolder) -> None:
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(lines[:-1]))
    assert "outcome" in {claim.name for claim in verified(run).unchecked}


def test_a_run_without_a_receipt_or_with_a_broken_one_is_refused(run: RunFolder) -> None:
    receipt = run.path / "receipt.json"
    receipt.write_text("{")
    with pytest.raises(BrokenContract) as caught:
        verified(run)
    assert caught.value.cause is Cause.RUN_UNREADABLE
    receipt.unlink()
    with pytest.raises(BrokenContract) as caught:
        verified(run)
    assert caught.value.cause is Cause.NO_RECEIPT
    assert "resumes" not in str(caught.value)  # nobody knows whether its program can
