"""What a check prints: each finding with its fix, and one line that says it all."""

from headway.base.errors import Cause, Finding, Remedy
from headway.export.check.request import SCHEMA, CheckResult
from headway.export.check.show_check import check_lines

BAD = Finding("refused", "it is broken", "a", "b", (Remedy("fix it"),), Cause.NOT_LEARNED)
WARNING = Finding("warning", "it is odd", "a", "b", (Remedy("look"),), Cause.NOT_LEARNED)


def lines(*findings: Finding, skipped: tuple[str, ...] = ()) -> list[str]:
    result = CheckResult(SCHEMA, "out", "", findings, ("20 tensors", "a chat ends"), skipped)
    return check_lines(result, 80)


def test_the_last_line_says_what_came_of_it() -> None:
    assert lines() == ["out: nothing found · 20 tensors · a chat ends"]
    assert lines(WARNING)[-1].startswith("out: 1 warning · ")
    assert lines(BAD, BAD, WARNING)[-1].startswith("out: 2 problems · ")


def test_each_finding_has_four_parts_and_what_was_not_checked_is_said() -> None:
    assert lines(BAD, WARNING, skipped=("no chat: it has no template",))[:-1] == [
        *("it is broken", "  have  a", "  need  b", "  try   fix it", ""),
        *("warning: it is odd", "  have  a", "  need  b", "  try   look", ""),
        "not checked: no chat: it has no template",
    ]
