"""Checks of a receipt: each against a finished run of Headway 0.1, and against changed ones."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, Finding
from headway.base.events import Ended, LogEntry, StepDone, StopAsked, read_events
from headway.base.version import __version__
from headway.data.batching.replay import replay_totals, replayed_rows
from headway.data.order import row_hash
from headway.data.replay_plan import ReplayPlan, ReplaySource
from headway.runs.plan import Plan, load_plan
from headway.runs.receipt import (
    Facts,
    Judgment,
    Receipt,
    closing_line,
    judge_contract,
    judge_learning,
    load_receipt,
)
from headway.runs.verification.verify_checks import (
    Claim,
    check_log,
    check_order,
    check_plan,
    check_probes,
    check_verdicts,
    checked,
    steps_of,
    unchecked,
    weight_claims,
)

NOTES = Path(__file__).parents[2] / "failures" / "releases" / "0.1.0" / "notes"


@pytest.fixture(scope="module")
def receipt() -> Receipt:
    return load_receipt(NOTES)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(NOTES)


@pytest.fixture(scope="module")
def log() -> list[LogEntry]:
    return read_events(NOTES / "events.jsonl")


def by_name(claims: Iterable[Claim]) -> dict[str, bool | None]:
    return {claim.name: claim.holds for claim in claims}


def learning_facts(receipt: Receipt, **changes: Any) -> Receipt:
    return replace(receipt, learning_facts=replace(receipt.learning_facts, **changes))


# ---- claims ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claimed", "found", "holds"),
    [
        ((1, 2), [1, 2], True),
        (float("nan"), None, True),
        ({"a": 1}, {"a": 1}, True),
        (Judgment("kept", ()), {"verdict": "kept", "reasons": []}, True),
        (1, 2, False),
        ({"a": 1}, {}, False),
    ],
)
def test_a_claim_holds_if_both_values_are_the_same_json(
    claimed: Any, found: Any, holds: bool
) -> None:
    assert checked("x", claimed, found, "a file").holds is holds


def test_a_claim_that_cannot_be_recomputed_neither_holds_nor_differs() -> None:
    claim = unchecked("x", (1,), "no data")
    assert (claim.claimed, claim.found, claim.by, claim.holds) == ([1], None, "no data", None)


# ---- plan, log and row order -------------------------------------------------------------------


def test_a_true_receipt_holds(receipt: Receipt, plan: Plan, log: list[LogEntry]) -> None:
    steps = steps_of(log)
    claims = [
        *check_plan(receipt, plan),
        *check_log(receipt, log, steps),
        *check_order(receipt, plan, steps),
        *check_probes(receipt, log),
        *check_verdicts(receipt, log),
    ]
    assert [claim for claim in claims if claim.holds is False] == []
    assert len(claims) > 40


def test_a_plan_of_another_version_may_have_another_identity(receipt: Receipt, plan: Plan) -> None:
    other = replace(plan, seed=plan.seed + 1, version="0.0.1")
    assert by_name(check_plan(receipt, other))["plan.identity"] is None
    same = replace(other, version=__version__)
    assert by_name(check_plan(receipt, same))["plan.identity"] is False


def test_a_step_out_of_place_is_named(receipt: Receipt, log: list[LogEntry]) -> None:
    steps = steps_of(log)
    claims = {c.name: c for c in check_log(receipt, log, [*steps[:2], *steps[3:]])}
    assert claims["steps.applied"].found == "5 steps, step 4 in place of step 3"
    assert claims["steps.applied"].holds is False


def test_a_log_that_stops_before_the_end_leaves_the_outcome_open(
    receipt: Receipt, log: list[LogEntry]
) -> None:
    cut = [entry for entry in log if not isinstance(entry.event, Ended)]
    assert by_name(check_log(receipt, cut, steps_of(cut)))["outcome"] is None


def test_rows_are_counted_by_the_row_order(
    receipt: Receipt, plan: Plan, log: list[LogEntry]
) -> None:
    steps = steps_of(log)
    one_more = [*steps[:-1], replace(steps[-1], rows=steps[-1].rows + 1)]
    assert by_name(check_order(receipt, plan, one_more))["rows.repeated"] is False
    other_seed = by_name(check_order(receipt, replace(plan, seed=plan.seed + 1), steps))
    assert other_seed["rows.row_sum"] is False


def test_a_loss_that_the_log_does_not_have_differs(receipt: Receipt, log: list[LogEntry]) -> None:
    probe = receipt.learning_facts.train_probe
    assert probe is not None
    lie = learning_facts(receipt, train_probe=replace(probe, after=probe.after - 1))
    assert by_name(check_probes(lie, log))["train_probe.after"] is False
    assert set(by_name(check_probes(receipt, [])).values()) == {False}


# ---- verdicts ----------------------------------------------------------------------------------


def rejudged(receipt: Receipt, why: str = "", **changes: Any) -> Receipt:
    """The receipt as this version writes it."""
    learned = receipt.learning_facts
    facts = Facts(
        receipt.outcome,
        why,
        receipt.steps.planned,
        receipt.steps.applied,
        receipt.rows,
        learned.tensors,
        not learned.nonfinite_steps,
        receipt.checkpoint,
    )
    contract = judge_contract(facts)
    learning = judge_learning(learned.train_probe, learned.held_out, receipt.steps.applied)
    return replace(
        receipt,
        environment=receipt.environment | {"headway": __version__},
        contract=contract,
        learning=learning,
        line=closing_line(facts, contract, learning, learned.train_probe, learned.held_out),
        **changes,
    )


REWORDED = {
    "contract": {"contract": Judgment("kept", ("in other words",))},
    "learning": {"learning": Judgment("unclear", ("in other words",))},
}


@pytest.mark.parametrize("name", REWORDED)
def test_reasons_are_compared_only_if_this_version_wrote_them(
    receipt: Receipt, log: list[LogEntry], name: str
) -> None:
    own = rejudged(receipt)
    assert False not in by_name(check_verdicts(own, log)).values()
    assert by_name(check_verdicts(replace(own, **REWORDED[name]), log))[name] is False
    assert by_name(check_verdicts(replace(receipt, **REWORDED[name]), log))[name] is True


@pytest.mark.parametrize(
    ("name", "verdict"), [("contract", "broken"), ("learning", "improved"), ("learning", "not")]
)
def test_verdicts_are_compared_whatever_version_wrote_them(
    receipt: Receipt, log: list[LogEntry], name: str, verdict: Any
) -> None:
    for one in (receipt, rejudged(receipt)):
        lie = replace(one, **{name: replace(getattr(one, name), verdict=verdict)})
        assert by_name(check_verdicts(lie, log))[name] is False


def test_the_line_of_another_version_is_compared_with_the_log(
    receipt: Receipt, log: list[LogEntry]
) -> None:
    assert by_name(check_verdicts(receipt, log))["line"] is True
    lie = replace(receipt, line="kept: 7 of 7 steps")
    assert by_name(check_verdicts(lie, log))["line"] is False
    without_end = [entry for entry in log if not isinstance(entry.event, Ended)]
    assert by_name(check_verdicts(receipt, without_end))["line"] is None


def ended(cause: Cause | None, what: str = "any sentence") -> list[LogEntry]:
    finding = Finding("refused", what, cause=cause)
    return [LogEntry("", 1.0, 1, 0, Ended("failed", 4, "broken", finding))]


@pytest.mark.parametrize(
    ("cause", "num", "holds"),
    [
        (Cause.NOT_FINITE, 1, True),
        (Cause.NOT_FINITE, 0, False),
        (Cause.DISK_FULL, 0, True),
        (Cause.DISK_FULL, 1, False),
        (None, 1, None),  # an older log
        (None, 0, None),
    ],
)
def test_the_cause_in_the_log_says_whether_a_loss_was_finite(
    receipt: Receipt, cause: Cause | None, num: int, holds: bool | None
) -> None:
    failed = learning_facts(replace(receipt, outcome="failed", attempts=1), nonfinite_steps=num)
    found = by_name(check_verdicts(failed, ended(cause)))
    assert found["nonfinite_steps"] is holds


@pytest.mark.parametrize("num", [0, 1])
def test_no_sentence_decides_the_contract(receipt: Receipt, num: int) -> None:
    """The log may say "not finite" of anything; the facts count."""
    why = "checkpoint-4 was not written: weights are not finite"
    failed = learning_facts(replace(receipt, outcome="failed", attempts=1), nonfinite_steps=num)
    own = rejudged(failed, why)
    assert len(own.contract.reasons) == 1 + num
    assert by_name(check_verdicts(own, ended(None, why)))["contract"] is True


def test_an_interrupted_run_needs_its_stop_in_the_log(receipt: Receipt) -> None:
    interrupted = rejudged(replace(receipt, outcome="interrupted", attempts=1), "SIGTERM")
    found = by_name(check_verdicts(interrupted, []))
    assert (found["contract"], found["line"], found["nonfinite_steps"]) == (None, None, None)
    stop = [LogEntry("", 1.0, 1, -1, StopAsked("SIGTERM"))]
    assert set(by_name(check_verdicts(interrupted, stop)).values()) == {True}


def test_what_only_weights_can_show_is_listed(receipt: Receipt) -> None:
    assert by_name(weight_claims(receipt)) == {
        "tensors.changed": None,
        "tensors.relative_change": None,
    }
    assert list(weight_claims(learning_facts(receipt, tensors=None))) == []


# ---- rows of earlier runs ------------------------------------------------------------------------


def replaying(
    receipt: Receipt, plan: Plan, log: list[LogEntry]
) -> tuple[Receipt, Plan, list[StepDone]]:
    """The same run, as if it had replayed rows."""
    source = ReplaySource("first", "kept_rows.json", "", 100)
    batch = plan.steps.batch_size
    replay = ReplayPlan(0.5, batch, plan.seed, (source,))
    num, row_sum = replay_totals(replay, plan.steps.num)
    replay = replace(replay, num_rows=num, row_sum=row_sum)
    steps = [
        replace(step, replayed=len(rows), replay_sum=row_hash(rows, 0))
        for step in steps_of(log)
        for rows in [replayed_rows(replay, step.step)]
    ]
    rows = replace(receipt.rows, replayed=num, replay_sum=row_sum, replay_sum_planned=row_sum)
    return replace(receipt, rows=rows), replace(plan, replay=replay), steps


def test_rows_of_earlier_runs_are_checked_apart_from_the_run_s_own(
    receipt: Receipt, plan: Plan, log: list[LogEntry]
) -> None:
    own = by_name(check_order(receipt, plan, steps_of(log)))
    assert not any("replay" in name for name in own)
    changed, replay, steps = replaying(receipt, plan, log)
    claims = by_name(check_order(changed, replay, steps))
    assert all(holds is not False for holds in claims.values())
    assert {name: holds for name, holds in claims.items() if "replay" not in name} == own
    assert "rows.replayed" in claims


@pytest.mark.parametrize(
    ("field", "change"),
    [("replayed", 1), ("replay_sum", 1), ("replay_sum_planned", 1)],
)
def test_another_number_of_replayed_rows_is_noticed(
    receipt: Receipt, plan: Plan, log: list[LogEntry], field: str, change: int
) -> None:
    changed, replay, steps = replaying(receipt, plan, log)
    value = getattr(changed.rows, field) + change
    changed = replace(changed, rows=replace(changed.rows, **{field: value}))
    found = [claim.holds for claim in check_order(changed, replay, steps) if field in claim.name]
    assert False in found


def test_replayed_rows_that_no_plan_has_are_noticed(
    receipt: Receipt, plan: Plan, log: list[LogEntry]
) -> None:
    changed, _, steps = replaying(receipt, plan, log)
    assert False in by_name(check_order(changed, plan, steps)).values()
