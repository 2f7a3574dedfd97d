"""Watched receipt: the two judgments on what was seen, and the closing line."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.runs.receipt import Loss, ReceiptSteps
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
    load_watched_receipt,
    seen_line,
)

STEPS = ReceiptSteps(0, 16, 16, 16)
ROWS = SeenRows(64, 32, 32, 2, 2)
LEARNED = SeenLearning(
    loss=Loss(2.0, 1.0, 32, 0.1), averaged=4, rate_max=1e-3, tensors=SeenTensors(9, 9, 9)
)
FACTS = SeenFacts("finished", "", STEPS, ROWS, SeenTokens(100, 90, 10), LEARNED, None)


def line(facts: SeenFacts) -> str:
    contract = judge_seen_contract(facts)
    return seen_line(facts, contract, judge_seen_learning(facts.learned, facts.steps.applied))


def learned(**given: Any) -> SeenFacts:
    return replace(FACTS, learned=replace(LEARNED, **given))


KEPT = {
    "whole": FACTS,
    "nothing but steps is known": replace(
        FACTS,
        rows=SeenRows(None),
        tokens=SeenTokens(None, None, None),
        learned=SeenLearning(),
    ),
    "stopped early": replace(
        FACTS, outcome="interrupted", why="asked", steps=replace(STEPS, applied=3)
    ),
    "some updates were skipped by fp16": replace(
        learned(skipped_steps=2), steps=replace(STEPS, applied=14)
    ),
    "some tensors did not move": learned(tensors=SeenTensors(9, 5, 9)),
    "the target is not known": replace(FACTS, steps=ReceiptSteps(0, 16, 0, 16)),
    "nothing was saved": replace(FACTS, checkpoint=None),
}


@pytest.mark.parametrize("facts", KEPT.values(), ids=KEPT)
def test_a_contract_is_kept(facts: SeenFacts) -> None:
    assert judge_seen_contract(facts).reasons == ()
    assert line(facts).startswith("kept")


BROKEN = {
    "no update": (
        replace(FACTS, steps=ReceiptSteps(16, 16, 0, 0), learned=SeenLearning()),
        "no update was applied",
    ),
    "too few": (
        replace(FACTS, steps=replace(STEPS, applied=3), why="the data ended"),
        "3 of 16 planned updates applied: the data ended",
    ),
    "failed": (replace(FACTS, outcome="failed", why="RuntimeError: x"), "RuntimeError: x"),
    "not finite": (
        learned(nonfinite_steps=1),
        "loss or gradient was not finite in 1 step",
    ),
    "masked": (
        replace(FACTS, tokens=SeenTokens(100, 0, 0)),
        "no token was trained: every label is masked",
    ),
    "no rate": (learned(rate_max=0.0), "the learning rate was 0 in every step"),
    "unmoved": (learned(tensors=SeenTensors(9, 0, 9)), "no trainable tensor changed"),
    "damaged": (
        replace(FACTS, checkpoint=SeenCheckpoint("/x/checkpoint-16", 16, 0, {}, "cut off")),
        "checkpoint-16 cannot be used: cut off",
    ),
}


@pytest.mark.parametrize(("facts", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_contract_is_broken(facts: SeenFacts, reason: str) -> None:
    assert judge_seen_contract(facts).reasons == (reason,)
    assert line(facts).startswith(f"broken: {reason} (")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS, ", 32 rows twice each ·"),
        (SeenRows(32, 32, 32, 1, 1), ", 32 rows once each ·"),
        (SeenRows(96, 32, 32, 3, 3), ", 32 rows 3 times each ·"),
        (SeenRows(33, 32, 32, 1, 2), ", 33 rows ·"),
        (SeenRows(32, 32, 31, 1, 2), ", 32 rows ·"),  # equal rows, or one twice: nobody knows
        (SeenRows(32, 32), ", 32 rows ·"),
        (SeenRows(32, None, 32, 1, 1), ", 32 rows ·"),
        (SeenRows(20, 32, 20, 1, 1), ", 20 rows (12 of the data not seen) ·"),
        (SeenRows(None, 32), "16 of 16 steps ·"),
        (SeenRows(32, None, 32, 1, 1, 2), ", 32 rows in the first of 2 processes ·"),
    ],
)
def test_the_line_says_of_rows_what_is_proved(rows: SeenRows, words: str) -> None:
    assert words in line(replace(FACTS, rows=rows))


def test_the_whole_line() -> None:
    assert line(FACTS) == (
        "kept: 16 of 16 steps, 32 rows twice each · "
        "improved: 2.00 -> 1.00 in the first and last 4 steps"
    )
    more = learned(held_out=Loss(2.0, 2.5, 0, 0.0), skipped_steps=1)
    assert "(1 skipped by the program)" in line(more)
    assert line(more).endswith("(held out 2.00 -> 2.50), held-out loss rose: 2.00 -> 2.50")


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([], 0),
        ([1.0] * 3, 0),
        ([1.0] * 4, 1),
        ([1.0] * 40, 10),
        ([1.0] * 400, 50),
        ([1.0] * 39 + [math.nan], 0),
    ],
)
def test_a_quarter_is_averaged_at_either_end(losses: list[float], expected: int) -> None:
    loss, averaged = change_of(losses, [2] * len(losses))
    assert averaged == expected
    assert (loss is None) == (expected == 0)


def test_the_spread_of_the_losses_decides_what_is_clear() -> None:
    steady = [3.0, 3.1, 2.9] * 4 + [2.0, 2.1, 1.9] * 4
    noisy = [1.0, 5.0, 3.0] * 4 + [4.5, 0.5, 2.8] * 4
    for losses, verdict in (
        (steady, "improved"),
        (steady[::-1], "not"),
        (noisy, "unclear"),
        (steady[:8], "unclear"),
    ):
        loss, _ = change_of(losses, [1] * len(losses))
        found = judge_seen_learning(SeenLearning(loss=loss), len(losses))
        assert found.verdict == verdict


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    contract = judge_seen_contract(FACTS)
    learning = judge_seen_learning(LEARNED, 16)
    receipt = WatchedReceipt(
        schema=SCHEMA,
        version="0",
        run="r",
        by="HeadwayCallback",
        program="Trainer",
        outcome="finished",
        why="",
        at="2026-11-30T00:00:00+00:00",
        steps=STEPS,
        rows=ROWS,
        tokens=FACTS.tokens,
        learning_facts=LEARNED,
        time=SeenTime(9.0, 1.0, 0.5, 0.2, 0.1, 8.0),
        checkpoint=None,
        not_seen=(),
        contract=contract,
        learning=learning,
        line=line(FACTS),
    )
    receipt.save(tmp_path)
    assert load_watched_receipt(tmp_path) == receipt
    assert receipt.is_sound
    assert receipt.facts == FACTS
    assert receipt.tokens.padding_share == pytest.approx(10 / 110)
