import pytest
from tests.ui.fixtures import texts

from headway.base.errors import Finding, Remedy
from headway.ui.styled import StyledLine, fact_lines, finding_lines, labeled, styled

LONG = Finding(
    "adjusted", "batch_size 32 -> 12, so that there is a step", "12 rows", "32", (Remedy("x"),)
)


def test_the_text_of_a_line_is_all_its_pieces() -> None:
    assert StyledLine((("rows  ", "dim"), ("12", ""))).text == "rows  12"
    assert StyledLine().text == ""


def test_lines_in_one_style() -> None:
    assert styled(["a", "b"], "red") == [StyledLine((("a", "red"),)), StyledLine((("b", "red"),))]


def test_a_label_is_dim_and_its_text_is_not() -> None:
    assert labeled("rows", "12 rows").pieces == (("rows       ", "dim"), ("12 rows", ""))


def test_facts_show_their_label_once_and_none_without_facts() -> None:
    assert texts(fact_lines("rows", ["12 rows", "3 held out"], 22)) == [
        "rows       12 rows",
        "           3 held out",
    ]
    assert fact_lines("rows", [], 22) == []


def test_a_finding_keeps_its_four_parts_at_any_width() -> None:
    assert texts(finding_lines(LONG, 80)) == [
        "~ batch_size 32 -> 12, so that there is a step",
        "  have  12 rows",
        "  need  32",
        "  try   x",
    ]
    assert texts(finding_lines(LONG, 40))[:2] == [
        "~ batch_size 32 -> 12, so that there is",
        "  a step",
    ]


@pytest.mark.parametrize(
    ("finding", "style"),
    [
        (Finding("adjusted", "batch_size 32 -> 12", have="12 rows"), "yellow"),
        (Finding("warning", "the loss rose", have="2.4"), "yellow"),
        (Finding("refused", "no space on the disk", have="2 GB"), "red"),
        (Finding("ok", "the loss fell", have="2.4"), ""),
    ],
)
def test_only_the_head_of_a_finding_has_a_color(finding: Finding, style: str) -> None:
    head, have = finding_lines(finding, 80)
    assert (head.pieces[0][1], have.pieces[0][1]) == (style, "")
