"""A planner that shows nothing new is explained on the screen, and given up in the end."""

from pathlib import Path
from typing import Any

import pytest
from tests.supervise.test_supervisor import Child, Screen
from tests.ui.fixtures import pulse

from headway.base.errors import Finding, Refusal
from headway.base.events import Stalled, StallEnded
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.supervise import planner_watch
from headway.supervise.planner_watch import PlannerWatch
from headway.supervise.stalls import explainer, stall_limits, stall_watch
from headway.supervise.stalls.explainer import Explanation
from headway.supervise.stalls.stall_limits import Patience

FOUND = Finding("warning", "tokenizing line 7 of a.jsonl", cause=None)


class Planner(Child):
    started: list[Child] = []  # noqa: RUF012 - not used here


def look_until_it_raises(watch: PlannerWatch) -> None:
    while True:
        watch.look()


def test_it_is_told_on_the_screen_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Diagnosis(StallCause.TOKENIZER, FOUND, Helps.PERSON)
    monkeypatch.setattr(explainer, "answer_to", lambda _: Explanation(found))
    monkeypatch.setattr(stall_watch, "LOOK_S", 0.0)
    monkeypatch.setattr(stall_watch, "measured", lambda _: None)
    monkeypatch.setattr(
        stall_limits, "PATIENCE", Patience(beating_s=0.01, phase_s=0.01, ended_other_s=0.05)
    )
    planner: Any = Planner("headway.supervise.planner", [])
    reading = pulse(pid=planner.pid, phase="tokenizing")
    monkeypatch.setattr(planner_watch, "read_pulse", lambda _: reading)
    screen = Screen()
    watch = PlannerWatch(planner, tmp_path, "stop", screen)
    with pytest.raises(Refusal, match="tokenizing line 7"):
        look_until_it_raises(watch)
    watch.close()
    assert [type(event) for event in screen.events] == [Stalled, StallEnded]
    assert screen.events[0].role == "the planner"
