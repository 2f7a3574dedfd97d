"""The two judgments and the closing line: a table of facts, each clause broken once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.runs.receipt import (
    Facts,
    Judgment,
    Loss,
    Measured,
    ReceiptCheckpoint,
    ReceiptRows,
    TensorAudit,
    closing_line,
    judge_contract,
    judge_learning,
    load_receipt,
    loss_between,
)

ROWS = ReceiptRows(
    read=20_012,
    rejected={"not JSON": 12},
    accepted=20_000,
    held_out=100,
    planned=19_900,
    not_planned=0,
    trained=19_900,
    applications_planned=19_900,
    applications=19_900,
    missing=0,
    repeated=0,
    row_sum=7,
    row_sum_planned=7,
)
TENSORS = TensorAudit(336, 336, 336, 0.03, (), ())
SAVED = ReceiptCheckpoint("checkpoint-2488", "5e" * 32, 10**6)
FACTS = Facts("finished", "", 2488, 2488, ROWS, TENSORS, True, SAVED)
PROBE = Loss(2.41, 1.37, 64, 0.04)
HELD_OUT = Loss(2.44, 1.52, 100, 0.03)


def rows(**changes: Any) -> Facts:
    return replace(FACTS, rows=replace(ROWS, **changes))


def tensors(**changes: Any) -> Facts:
    return replace(FACTS, tensors=replace(TENSORS, **changes))


# ---- the contract ------------------------------------------------------------------------------


def test_other_rows_of_earlier_runs_than_were_due_break_the_contract() -> None:
    assert judge_contract(rows(replayed=3, replay_sum=7, replay_sum_planned=7)).verdict == "kept"
    broken = judge_contract(rows(replayed=3, replay_sum=8, replay_sum_planned=7))
    assert broken.verdict == "broken"
    assert broken.reasons == ("the replayed rows of earlier runs are not the planned ones",)


def test_a_run_that_did_what_was_planned_keeps_its_contract() -> None:
    assert judge_contract(FACTS) == Judgment("kept", ())


BROKEN = {
    "updates are missing": (
        replace(FACTS, applied_steps=2487),
        "2487 of 2488 planned updates applied",
    ),
    "no update at all": (
        replace(FACTS, applied_steps=0, checkpoint=None),
        "0 of 2488 planned updates applied",
    ),
    "rows are missing": (
        rows(missing=3, applications=19_897),
        "the ledger does not add up: 3 rows missing, 0 repeated",
    ),
    "rows came twice": (
        rows(repeated=1),
        "the ledger does not add up: 0 rows missing, 1 repeated",
    ),
    "one row for another": (
        rows(row_sum=8),
        "the ledger does not add up: the steps trained other rows than planned",
    ),
    "a loss is not finite": (replace(FACTS, losses_finite=False), "a loss was not finite"),
    "a tensor stood still": (
        tensors(changed=335, unmoved=("norm",)),
        "1 of 336 trainable tensors had a gradient but did not change, such as norm",
    ),
    "a tensor stood still while decay moved one without gradient": (
        tensors(with_gradient=335, changed=335, unmoved=("norm",), dead=("head",)),
        "1 of 336 trainable tensors had a gradient but did not change, such as norm",
    ),
    "many stood still": (
        tensors(changed=100, unmoved=tuple("abcdefghij")),
        "10 or more of 336 trainable tensors had a gradient but did not change, such as a",
    ),
    "nothing moved and nothing had gradient": (
        tensors(with_gradient=0, changed=0, dead=("a",)),
        "no trainable tensor changed",
    ),
    "no checkpoint": (replace(FACTS, checkpoint=None), "no checkpoint was read back"),
    "it failed": (replace(FACTS, outcome="failed", why="the disk is full"), "the disk is full"),
    "it failed without a word": (replace(FACTS, outcome="failed"), "the run failed"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_clause_that_is_broken_is_the_reason(case: str) -> None:
    facts, reason = BROKEN[case]
    found = judge_contract(facts)
    assert found.verdict == "broken"
    assert found.reasons == (reason,)


def test_every_broken_clause_is_a_reason() -> None:
    facts = replace(rows(missing=1), losses_finite=False, checkpoint=None, applied_steps=5)
    assert len(judge_contract(facts).reasons) == 4


KEPT = {
    "a dead tensor is frozen by the model, not by us": tensors(with_gradient=335, dead=("head",)),
    "an interrupted run did as planned so far": replace(
        FACTS, outcome="interrupted", why="SIGTERM", applied_steps=3, tensors=None
    ),
    "interrupted before the first step": replace(
        FACTS, outcome="interrupted", why="SIGINT", applied_steps=0, tensors=None, checkpoint=None
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_does_not_break_it(case: str) -> None:
    assert judge_contract(KEPT[case]).verdict == "kept"


def test_an_interrupted_run_with_a_wrong_ledger_is_broken() -> None:
    facts = replace(rows(row_sum=8), outcome="interrupted", applied_steps=3, tensors=None)
    assert judge_contract(facts).verdict == "broken"


# ---- learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("probe", "held_out", "steps", "verdict", "reasons"),
    [
        (PROBE, None, 2488, "improved", ()),
        (PROBE, HELD_OUT, 2488, "improved", ()),
        (PROBE, None, 10, "improved", ()),
        (PROBE, None, 9, "unclear", ("under 10 steps",)),
        (Loss(1.37, 2.41, 64, 0.04), None, 10, "not", ()),
        (Loss(2.41, float("nan"), 64, float("nan")), None, 10, "not", ()),
        (Loss(2.41, 2.34, 64, 0.04), None, 99, "unclear", ("within the spread of 0.04",)),
        (Loss(2.41, 2.48, 64, 0.04), None, 99, "unclear", ("within the spread of 0.04",)),
        (Loss(2.41, 2.32, 64, 0.04), None, 99, "improved", ()),
        (Loss(2.41, 2.50, 64, 0.04), None, 99, "not", ()),
        (PROBE, Loss(1.5, 2.44, 9, 0.1), 99, "improved", ("held-out loss rose: 1.50 -> 2.44",)),
        (
            PROBE,
            Loss(1.5, 2.44, 9, 0.1),
            3,
            "unclear",
            ("under 10 steps", "held-out loss rose: 1.50 -> 2.44"),
        ),
        (None, None, 99, "unclear", ("not measured",)),
        (None, HELD_OUT, 99, "unclear", ("not measured",)),
        (PROBE, None, 0, "unclear", ("not measured",)),
    ],
)
def test_learning_is_judged_apart_from_the_contract(
    probe: Loss | None, held_out: Loss | None, steps: int, verdict: str, reasons: tuple[str, ...]
) -> None:
    found = judge_learning(probe, held_out, steps)
    assert found.verdict == verdict
    assert found.reasons == reasons


@given(st.floats(0.1, 9), st.floats(0.1, 9), st.floats(0, 1), st.integers(10, 99))
def test_improved_and_not_improved_are_opposites(
    before: float, after: float, spread: float, steps: int
) -> None:
    there = judge_learning(Loss(before, after, 9, spread), None, steps).verdict
    back = judge_learning(Loss(after, before, 9, spread), None, steps).verdict
    assert {"improved": "not", "not": "improved", "unclear": "unclear"}[there] == back


def test_two_measurements_have_the_spread_of_both() -> None:
    found = loss_between(Measured(2.5, 0.3, 64), Measured(1.5, 0.4, 64))
    assert (found.before, found.after, found.rows) == (2.5, 1.5, 64)
    assert found.spread == pytest.approx(0.5)


# ---- the closing line --------------------------------------------------------------------------


def line(facts: Facts, probe: Loss | None = PROBE, held_out: Loss | None = None) -> str:
    learning = judge_learning(probe, held_out, facts.applied_steps)
    return closing_line(facts, judge_contract(facts), learning, probe, held_out)


LINES = {
    "the good end": (
        line(FACTS, held_out=HELD_OUT),
        "kept: 2,488 of 2,488 steps, 19,900 rows once each"
        " · improved: 2.41 -> 1.37 (held out 2.44 -> 1.52)",
    ),
    "three epochs": (
        line(rows(applications=59_700)),
        "kept: 2,488 of 2,488 steps, 19,900 rows 3 times each · improved: 2.41 -> 1.37",
    ),
    "part of an epoch": (
        line(rows(applications=29_850)),
        "kept: 2,488 of 2,488 steps, 9,950 rows once, 9,950 twice · improved: 2.41 -> 1.37",
    ),
    "one step": (
        line(replace(rows(planned=1, applications=1), planned_steps=1, applied_steps=1)),
        "kept: 1 of 1 step, 1 row once each · unclear: 2.41 -> 1.37, under 10 steps",
    ),
    "nothing learned": (
        line(FACTS, Loss(1.37, 2.41, 64, 0.04)),
        "kept: 2,488 of 2,488 steps, 19,900 rows once each · not improved: 1.37 -> 2.41",
    ),
    "held out rose": (
        line(FACTS, held_out=Loss(1.5, 2.44, 9, 0.1)),
        "kept: 2,488 of 2,488 steps, 19,900 rows once each"
        " · improved: 2.41 -> 1.37 (held out 1.50 -> 2.44), held-out loss rose: 1.50 -> 2.44",
    ),
    "interrupted": (
        line(replace(FACTS, outcome="interrupted", why="SIGTERM", applied_steps=30, tensors=None)),
        "kept so far: 30 of 2,488 steps, saved (SIGTERM) · improved: 2.41 -> 1.37"
        " · the same command resumes from step 30",
    ),
    "interrupted at once": (
        line(
            replace(
                FACTS,
                outcome="interrupted",
                why="SIGINT",
                applied_steps=0,
                tensors=None,
                checkpoint=None,
            ),
            None,
        ),
        "kept so far: 0 of 2,488 steps, nothing to save (SIGINT)"
        " · the same command starts it again",
    ),
    "broken": (
        line(rows(missing=3)),
        "broken: the ledger does not add up: 3 rows missing, 0 repeated (2,488 of 2,488 steps)"
        " · improved: 2.41 -> 1.37",
    ),
    "failed": (
        line(replace(FACTS, outcome="failed", why="the disk is full", applied_steps=7), None),
        "broken: the disk is full (7 of 2,488 steps)",
    ),
}


@pytest.mark.parametrize("case", LINES)
def test_the_closing_line_says_both_with_numbers(case: str) -> None:
    found, wanted = LINES[case]
    assert found == wanted


# ---- on disk -----------------------------------------------------------------------------------


def test_what_is_not_a_receipt_of_this_version_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_receipt(tmp_path)
    (tmp_path / "receipt.json").write_text('{"schema": "headway.receipt/1"}')
    with pytest.raises(msgspec.ValidationError):
        load_receipt(tmp_path)
