"""What a gate takes, and when it opens."""

import pytest
from tests.inbox.recall.test_still_known import WORSE, known, losses

from headway.inbox.recall.gate import GateTerm, read_gate, why_closed

BOTH = (GateTerm.IMPROVED, GateTerm.NOTHING_FORGOTTEN)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("kept", ["kept"]),
        ("improved", ["improved"]),
        ("improved and nothing_forgotten", ["improved", "nothing_forgotten"]),
        ("  nothing_forgotten   and improved ", ["nothing_forgotten", "improved"]),
        ("improved and improved", ["improved"]),
    ],
)
def test_terms_are_joined_by_and(text: str, terms: list[str]) -> None:
    assert list(read_gate(text)) == terms


@pytest.mark.parametrize(
    "text",
    ["", "and", "improved and", "and improved", "improved or kept", "improved nothing_forgotten",
     "Improved", "improved and learned", "not improved", "improved,kept", None, True, ["improved"]],
)  # fmt: skip
def test_nothing_else_is_a_gate(text: object) -> None:
    with pytest.raises(ValueError, match="joined by and"):
        read_gate(text)


@pytest.mark.parametrize(
    ("gate", "verdict", "why"),
    [
        ((GateTerm.KEPT,), "not", ""),
        ((GateTerm.IMPROVED,), "improved", ""),
        ((GateTerm.IMPROVED,), "unclear", "learning unclear"),
        (BOTH, "improved", "a.jsonl forgotten"),
        (BOTH, "unclear", "learning unclear, a.jsonl forgotten"),
        ((GateTerm.NOTHING_FORGOTTEN,), "not", "a.jsonl forgotten"),
    ],
)
def test_every_term_has_to_hold(gate: tuple[GateTerm, ...], verdict: str, why: str) -> None:
    assert why_closed(gate, verdict, known(WORSE)) == why


def test_what_was_not_measured_opens_no_gate() -> None:
    assert why_closed(BOTH, "improved", known(losses())) == ""
    assert "not measured" in why_closed(BOTH, "improved", None)
    assert why_closed((GateTerm.IMPROVED,), "improved", None) == ""
