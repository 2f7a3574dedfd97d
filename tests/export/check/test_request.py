"""A check as it travels: only what is refused speaks against a folder."""

import msgspec

from headway.base.errors import Cause, Finding, Remedy
from headway.export.check.request import SCHEMA, CheckResult


def result(*kinds: str) -> CheckResult:
    findings = tuple(
        msgspec.convert({"kind": kind, "what": "w", "cause": "not_learned"}, Finding)
        for kind in kinds
    )
    return CheckResult(SCHEMA, "out", "", findings, (), ())


def test_warnings_leave_a_folder_good() -> None:
    assert result().is_good
    assert result("warning").is_good
    assert not result("warning", "refused").is_good


def test_it_comes_back_as_it_was_sent() -> None:
    finding = Finding("refused", "w", "h", "n", (Remedy("do", "gives"),), Cause.NEVER_ENDS)
    sent = CheckResult(SCHEMA, "out", "base", (finding,), ("a",), ("b",))
    assert msgspec.json.decode(msgspec.json.encode(sent), type=CheckResult) == sent
