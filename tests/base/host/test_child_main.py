"""A child's errors: the machine's are refusals, ours stay bugs."""

import os
import sys

import msgspec
import pytest

from headway.base.errors import Cause
from headway.base.host.child_main import run_child
from headway.base.process import REPORT_VARIABLE, Report


def test_its_arguments_and_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["child", "a", "b"])
    assert run_child(len) == 2


def test_what_the_machine_causes_reaches_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    monkeypatch.setenv(REPORT_VARIABLE, str(theirs))

    def main(_: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    assert run_child(main) == 2
    os.close(theirs)
    report = msgspec.json.decode(os.read(ours, 1 << 16), type=Report)
    os.close(ours)
    assert report.refused is not None
    assert report.refused.findings[0].cause is Cause.MISSING_PACKAGE


def test_a_bug_stays_one() -> None:
    def main(_: list[str]) -> int:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        run_child(main)
