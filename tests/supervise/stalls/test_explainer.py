"""A cause is looked for beside the supervisor, kept in a file, and never ends a run."""

import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headway.base.errors import Finding
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.supervise.stalls.explainer import Explainer, Explanation, Question

FOUND = Finding("warning", "waits for itself")


@pytest.fixture
def diagnosed(monkeypatch: pytest.MonkeyPatch) -> "list[Any]":
    """What is found; an exception is raised."""
    found: list[Any] = [Diagnosis(StallCause.DEADLOCK, FOUND, Helps.RESTART)]

    def explain(_: Any) -> Diagnosis:
        if isinstance(found[0], Exception):
            raise found[0]
        return found[0]

    for name, parts in {
        "examine": {"examine": lambda *_, **__: "evidence"},
        "explain": {"explain": explain},
        "report": {"report_text": lambda evidence, _: f"all of the {evidence}\n"},
    }.items():
        module = ModuleType(f"headway.diagnose.{name}")
        vars(module).update(parts)
        monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    return found


def answered(question: Question) -> Explanation:
    explainer = Explainer()
    assert explainer.take() is None
    explainer.ask(question)
    assert explainer.is_busy
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        if answer := explainer.take():
            assert not explainer.is_busy
            return answer
        time.sleep(0.01)
    raise AssertionError("no answer came")


def test_what_was_seen_is_kept(diagnosed: list[Any], tmp_path: Path) -> None:
    answer = answered(Question((1,), file=tmp_path / "stall-1.txt"))
    assert answer == Explanation(diagnosed[0], "stall-1.txt")
    assert (tmp_path / "stall-1.txt").read_text() == "all of the evidence\n"


def test_nothing_is_kept_of_what_is_over_by_itself(diagnosed: list[Any], tmp_path: Path) -> None:
    diagnosed[0] = Diagnosis(StallCause.SLOW_SOURCE, FOUND, Helps.PATIENCE)
    assert answered(Question((1,), file=tmp_path / "stall-1.txt")).file == ""
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_is_none(diagnosed: list[Any], tmp_path: Path) -> None:
    answer = answered(Question((1,), file=tmp_path / "no folder" / "stall-1.txt"))
    assert answer == Explanation(diagnosed[0])


def test_what_goes_wrong_with_it_is_said(diagnosed: list[Any]) -> None:
    diagnosed[0] = ZeroDivisionError("a rate of nothing")
    found = answered(Question((17,), silent_s=12.0)).diagnosis
    assert found.cause is StallCause.UNKNOWN
    assert found.finding.what == "no progress for 12 s, for an unknown reason"
    assert "ZeroDivisionError: a rate of nothing" in found.finding.have
    assert found.finding.remedies[0].do == "headway diagnose --pid 17"
