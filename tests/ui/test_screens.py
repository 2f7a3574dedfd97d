import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.ui.fixtures import WARNING, entry, pulse, receipt, status, step_done, text_plan

from headway.base.errors import Cause, DataRefused, Remedy
from headway.base.events import (
    AttemptStarted,
    Event,
    Noted,
    Saved,
    StopAsked,
)
from headway.supervise.progress import Progress, Readings, Status
from headway.ui.live import Live
from headway.ui.screens import Json, Plain, Quiet, Screen, make_screen

SHORT = DataRefused(
    "notes.txt is too short",
    cause=Cause.TOO_LITTLE_DATA,
    have="100 tokens",
    remedies=(Remedy("more text"),),
)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Broken(io.StringIO):
    """A reader that has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def screen(**changes: Any) -> tuple[Screen, Clock, io.StringIO, io.StringIO]:
    """A screen on streams in memory, with its clock, its output and its errors."""
    clock = Clock()
    given: dict[str, Any] = {"stdout": io.StringIO(), "stderr": io.StringIO(), "clock": clock}
    given |= {"environ": {"TERM": "xterm", "COLUMNS": "80"}} | changes
    made = make_screen(given.pop("stdout"), given.pop("stderr"), **given)
    return made, clock, made._out.stream, made._err.stream  # type: ignore[attr-defined]


def follow(shown: Screen, clock: Clock, seconds: float, at: Callable[[float], Status]) -> None:
    """Call `status` ten times a second, as a supervisor does."""
    for tick in range(round(seconds * 10)):
        shown.status(at(tick / 10))
        clock.now_s = round(clock.now_s + 0.1, 1)


def standing(**changes: Any) -> Callable[[float], Status]:
    """A status in which nothing moves but time."""
    return lambda age_s: status(
        **{"phase_since_s": age_s, "last_news_s": age_s, "seconds_left": None} | changes
    )


def tell(shown: Screen, *events: Event) -> None:
    for event in events:
        shown.event(entry(event))


# -- plain lines -----------------------------------------------------------------------------------


def test_plain_has_a_line_for_each_phase() -> None:
    shown, clock, out, _ = screen()
    shown.say("headway 0.1.0")
    for phase in ("reading", "loading the model", "reading"):
        follow(shown, clock, 1, standing(phase=phase, state="starting"))
    assert out.getvalue().splitlines() == ["headway 0.1.0", "reading", "loading the model"]


@pytest.mark.parametrize("state", ["planning", "starting", "training", "saving", "stopping"])
def test_plain_says_something_every_ten_seconds_in_any_phase(state: str) -> None:
    shown, clock, out, _ = screen()
    follow(shown, clock, 65, standing(state=state, phase="reading", waiting_for=""))
    assert shown.max_silence <= 10.0
    lines = out.getvalue().splitlines()
    assert 6 <= len(lines) <= 8
    assert "no news for" in lines[-1]


def test_plain_names_what_is_waited_for() -> None:
    shown, clock, out, _ = screen()
    waiting = status(state="planning", phase="reading", waiting_for="standard input")
    follow(shown, clock, 12, lambda age_s: replace(waiting, waiting_since_s=age_s))
    assert "waiting for standard input 9.5 s" in out.getvalue()


def test_plain_shows_the_steps_that_are_asked_for_even_in_a_burst() -> None:
    shown, _, out, _ = screen(logging_steps=2)
    shown.plan(text_plan())  # 3 steps
    tell(shown, AttemptStarted("notes", "0.1.0", 7, 0, ""), *(step_done(i) for i in (1, 2, 3)))
    steps = [line for line in out.getvalue().splitlines() if line.startswith("step ")]
    assert [line.split(" · ")[0] for line in steps] == ["step 1/3", "step 2/3", "step 3/3"]
    assert steps[0] == "step 1/3 · loss 2.50 (avg 2.50) · 800 tok/s · 400 tokens"


def test_o01_plain_shows_the_first_step_and_the_last_unasked() -> None:
    shown, _, out, _ = screen(logging_steps=500)
    shown.plan(text_plan())
    tell(shown, AttemptStarted("notes", "0.1.0", 7, 0, ""), *(step_done(i) for i in (1, 2, 3)))
    steps = [line.split(" · ")[0] for line in out.getvalue().splitlines() if "step " in line[:5]]
    assert steps == ["step 1/3", "step 3/3"]


@pytest.mark.parametrize("logging_steps", [None, 500])
def test_o01_plain_steps_come_at_least_every_ten_seconds(logging_steps: int | None) -> None:
    shown, clock, out, _ = screen(logging_steps=logging_steps)
    follow(shown, clock, 31, lambda age_s: status(step=int(age_s) + 1))
    lines = out.getvalue().splitlines()
    assert lines[0] == "training"
    assert [line.split(" · ")[0] for line in lines[1:]] == [
        "step 10/100",
        "step 20/100",
        "step 29/100",
    ]


def test_plain_has_no_control_characters() -> None:
    shown, clock, out, _ = screen()
    shown.plan(text_plan())
    tell(shown, Noted(WARNING), Saved(3, "checkpoint-3", 1, 0.1))
    follow(shown, clock, 20, standing())
    shown.receipt(receipt())
    assert out.getvalue().replace("\n", "").isprintable()
    assert "saved checkpoint-3" in out.getvalue()


def test_a_request_to_stop_is_told_once_though_two_processes_log_it() -> None:
    for stream in (io.StringIO(), Terminal()):
        shown, _, out, _ = screen(stdout=stream)
        tell(shown, StopAsked("SIGINT"), StopAsked("SIGINT"))
        assert out.getvalue().count("stop requested by Ctrl+C") == 1


# -- quiet and json --------------------------------------------------------------------------------


def test_quiet_says_the_closing_line_and_refusals_alone() -> None:
    shown, clock, out, err = screen(quiet=True)
    shown.say("headway 0.1.0")
    shown.plan(text_plan())
    follow(shown, clock, 20, standing())
    tell(shown, Noted(WARNING))
    shown.refusal(SHORT)
    shown.receipt(receipt())
    shown.close()
    assert out.getvalue() == receipt().line + "\n"
    assert err.getvalue().splitlines()[0] == "notes.txt is too short"
    assert shown.max_silence >= 20


def test_json_is_one_object_per_line_and_ends_with_the_receipt() -> None:
    shown, clock, out, err = screen(json=True)
    shown.say("headway 0.1.0")
    shown.plan(text_plan())
    tell(shown, step_done(1), Noted(WARNING))
    follow(shown, clock, 11, standing())
    shown.receipt(receipt())
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["plan", "step_done", "noted", "status", "receipt"]
    assert lines[1]["attempt"] == 1
    assert lines[1]["loss"] == 2.5
    assert lines[3]["schema"] == "headway.status/1"
    assert lines[4]["rows"]["trained"] == 19_900
    assert err.getvalue() == "headway 0.1.0\n"
    assert shown.max_silence <= 10.0


def test_a_single_value_has_no_lines_beside_it_however_long_it_takes() -> None:
    shown, clock, out, err = screen(json=True, single=True)
    follow(shown, clock, 25, standing())
    shown.close()
    assert out.getvalue() == ""
    assert len(err.getvalue().splitlines()) == 2


def test_json_tells_a_refusal_to_programs_and_people() -> None:
    shown, _, out, err = screen(json=True)
    shown.refusal(SHORT)
    refused = json.loads(out.getvalue())
    assert (refused["event"], refused["code"]) == ("refused", 3)
    assert refused["findings"][0]["remedies"] == [{"do": "more text", "gives": ""}]
    assert err.getvalue().splitlines()[-1] == "  try   more text"


# -- every screen ----------------------------------------------------------------------------------

KINDS: list[dict[str, Any]] = [{}, {"quiet": True}, {"json": True}, {"stdout": Terminal()}]


@pytest.mark.parametrize("kind", KINDS, ids=["plain", "quiet", "json", "live"])
def test_refusals_go_to_standard_error(kind: dict[str, Any]) -> None:
    shown, clock, _, err = screen(**kind)
    follow(shown, clock, 1, standing())
    shown.refusal(SHORT)
    shown.close()
    assert err.getvalue() == ("notes.txt is too short\n  have  100 tokens\n  try   more text\n")


class BrokenTerminal(Broken):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "kind",
    [{"stdout": Broken()}, {"stdout": Broken(), "json": True}, {"stdout": BrokenTerminal()}],
    ids=["plain", "json", "live"],
)
def test_a_reader_that_goes_away_never_ends_the_run(kind: dict[str, Any]) -> None:
    shown, clock, _, _ = screen(**kind)
    follow(shown, clock, 12, standing())
    shown.say("headway 0.1.0")
    shown.plan(text_plan())
    tell(shown, step_done(1), Noted(WARNING))
    follow(shown, clock, 12, standing())
    shown.receipt(receipt())
    shown.close()
    assert shown.max_silence >= 0  # it came this far


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, Plain),
        ({"stdout": Terminal()}, Live),
        ({"stdout": Terminal(), "environ": {"TERM": "dumb"}}, Plain),
        ({"stdout": Terminal(), "environ": {}}, Plain),
        ({"stdout": Terminal(), "quiet": True}, Quiet),
        ({"stdout": Terminal(), "json": True, "quiet": True}, Json),
    ],
)
def test_the_screen_fits_where_the_output_goes(changes: dict[str, Any], kind: type) -> None:
    assert isinstance(screen(**changes)[0], kind)


@pytest.mark.parametrize(("columns", "width"), [("20", 40), ("60", 60), ("400", 120), ("x", 80)])
def test_columns_sets_the_width(columns: str, width: int) -> None:
    shown, *_ = screen(environ={"TERM": "xterm", "COLUMNS": columns})
    assert shown._width == width  # type: ignore[attr-defined]


def test_a_terminal_that_cannot_say_our_characters_gets_plain_ones() -> None:
    raw = io.BytesIO()
    latin = io.TextIOWrapper(raw, encoding="ascii")
    latin.isatty = lambda: True  # type: ignore[method-assign]
    shown, *_ = screen(stdout=latin)
    assert isinstance(shown, Plain)
    shown.say("step 3/100 · loss 2.45 日本")
    assert raw.getvalue() == b"step 3/100 - loss 2.45 ??\n"


def test_the_first_line_does_not_wait_for_rich() -> None:
    code = (
        "import io, sys\n"
        "from headway.ui.screens import make_screen\n"
        "class Terminal(io.StringIO):\n"
        "    def isatty(self): return True\n"
        "out = Terminal()\n"
        "make_screen(out, out, environ={'TERM': 'xterm'}).say('headway 0.1.0')\n"
        "assert out.getvalue() == 'headway 0.1.0\\n', out.getvalue()\n"
        "assert 'rich' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_supervisors_progress_and_a_screen_go_together() -> None:
    shown, clock, out, _ = screen(logging_steps=1)
    progress = Progress("notes")
    shown.plan(text_plan())
    for one in (entry(AttemptStarted("notes", "0.1.0", 7, 0, "")), entry(step_done(1))):
        progress.take(one)
        shown.event(one)
        readings = Readings(workers=(pulse(steps=3, skipped=2),))
        shown.status(progress.status(readings, clock.now_s))
    assert "step 1/3 · loss 2.50" in out.getvalue()
