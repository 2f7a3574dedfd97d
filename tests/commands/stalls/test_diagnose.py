"""diagnose, as it is typed: what is printed, and the exit code of each cause."""

import os
from pathlib import Path

import pytest

from headway.base.errors import Exit, Finding, Remedy
from headway.cli import run
from headway.commands.stalls import diagnose
from headway.diagnose.answer import SCHEMA, DiagnosisAnswer
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import Evidence, ProcessFacts

FINDING = Finding("warning", "it is stopped", "state T", "running", (Remedy("kill -CONT 5"),))


def answer(cause: StallCause) -> DiagnosisAnswer:
    evidence = Evidence((ProcessFacts(5, command=("python", "t.py")),))
    return DiagnosisAnswer.of(
        "notes", "training", evidence, Diagnosis(cause, FINDING, Helps.PERSON)
    )


ENDED = DiagnosisAnswer(SCHEMA, "notes", "finished", running=False)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[DiagnosisAnswer]:
    """What each look finds, one after the other."""
    found: list[DiagnosisAnswer] = []
    monkeypatch.setattr(diagnose, "_of_process", lambda _: found.pop(0))
    monkeypatch.setattr(diagnose, "WATCH_S", 0.0)
    monkeypatch.setenv("COLUMNS", "60")
    return found


def typed(*words: str) -> int:
    return run(["diagnose", "--pid", str(os.getpid()), *words])


@pytest.mark.parametrize(
    ("cause", "code"), [(StallCause.STOPPED, Exit.KEPT), (StallCause.UNKNOWN, Exit.BROKEN)]
)
def test_the_exit_code_says_whether_it_is_explained(
    answers: list[DiagnosisAnswer],
    capsys: pytest.CaptureFixture[str],
    cause: StallCause,
    code: Exit,
) -> None:
    answers.append(answer(cause))
    assert typed() == code
    out = capsys.readouterr().out.splitlines()
    assert out[:3] == ["notes · training", "! it is stopped", "  have  state T"]


def test_quiet_is_one_line_and_verbose_is_everything(
    answers: list[DiagnosisAnswer], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [answer(StallCause.STOPPED), answer(StallCause.STOPPED)]
    typed("--quiet")
    assert capsys.readouterr().out == "it is stopped\n"
    typed("--verbose")
    assert "cause stopped" in capsys.readouterr().out


def test_watching_tells_changes_until_the_end(
    answers: list[DiagnosisAnswer], capsys: pytest.CaptureFixture[str]
) -> None:
    healthy, stopped = answer(StallCause.HEALTHY), answer(StallCause.STOPPED)
    answers += [healthy, healthy, stopped, stopped, stopped, ENDED]
    assert typed("--watch") == Exit.KEPT
    out = capsys.readouterr().out
    assert out.count("notes · training") == 2
    assert out.splitlines()[-2:] == [
        "notes is not running: finished",
        "  try   headway status notes   how it ended",
    ]


def test_watching_as_json_is_an_object_per_look(
    answers: list[DiagnosisAnswer], capsys: pytest.CaptureFixture[str]
) -> None:
    answers += [answer(StallCause.HEALTHY), answer(StallCause.HEALTHY), ENDED]
    typed("--watch", "--json")
    lines = capsys.readouterr().out.splitlines()
    assert ['"running":true' in line for line in lines] == [True, True, False]


@pytest.mark.parametrize(
    "words",
    [("notes",), ("--bundle", "a.txt", "--watch"), ("--bundle", "a.zip")],
)
def test_a_contradiction_is_refused_with_lines_that_work(
    answers: list[DiagnosisAnswer],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    answers.append(ENDED)
    assert typed(*words) == Exit.USAGE
    tries = [line for line in capsys.readouterr().err.splitlines() if "  try " in line]
    assert tries
    assert "..." not in "".join(tries)
