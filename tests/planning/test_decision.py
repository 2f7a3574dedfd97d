"""Decisions: adjusted values keep their origin, and later choices win."""

from tests.helpers import settings

from headway.base.errors import Finding, Remedy
from headway.planning.decision import Decision, adjusted, all_choices, all_findings, auto


def test_an_adjusted_setting_keeps_its_origin_and_reports_why() -> None:
    given = settings(batch_size=32)
    decision = adjusted(
        given,
        "batch_size",
        12,
        "too large",
        asked=32,
        have="32",
        need="12",
        remedies=(Remedy("fewer"),),
    )
    assert decision.value == 12
    (choice,) = decision.choices
    assert (choice.value, choice.origin, choice.reason, choice.asked) == (
        12,
        "--batch_size",
        "adjusted: too large",
        32,
    )
    (finding,) = decision.findings
    assert (finding.kind, finding.have, finding.need) == ("adjusted", "32", "12")


def test_settings_that_nobody_decided_stay_as_given() -> None:
    given = settings(seed=7)
    choices = {c.name: c for c in all_choices(given, [Decision(1, (auto("threads", 4, "cores"),))])}
    assert [choices["threads"].value, choices["threads"].origin] == [4, "auto"]
    assert [choices["seed"].value, choices["seed"].origin] == [7, "--seed"]
    assert choices["weight_decay"].origin == "default"
    assert list(choices) == [name for name, _, _ in given.items()]


def test_findings_stay_in_the_order_of_the_decisions() -> None:
    first, second = Finding("ok", "first"), Finding("warning", "second")
    decisions = [Decision(1, findings=(first,)), Decision(2), Decision(3, findings=(second,))]
    assert all_findings(decisions) == (first, second)
