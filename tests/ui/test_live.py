import io
import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.ui.fixtures import WARNING, entry, receipt, stall, status, step_done, text_plan, texts

from headway.base.errors import Cause, DataRefused
from headway.base.events import Evaluated, Event, Noted, Sampled, Saved
from headway.runs.receipt import Judgment
from headway.supervise.progress import Status
from headway.ui.live import Curve, Live, moving_lines
from headway.ui.text_layout import cells

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MOVES = re.compile(r"\x1b\[(\d+)A|\x1b\[(2)K|\x1b\[[0-9;?]*[A-Za-z]|([\r\n])|(.)")


class Tape(io.StringIO):
    """A terminal that remembers when it was written to."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0  # the time, which passes when it is told to
        self.frames: list[tuple[float, str]] = []

    def write(self, text: str) -> int:
        words = ESCAPES.sub("", text).strip()
        if words and (not self.frames or self.frames[-1][1] != words):
            self.frames.append((self.now_s, words))
        return super().write(text)

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What an endless terminal shows down to its cursor."""
        rows, row, column = [""], 0, 0
        for up, erase, moved, text in MOVES.findall(self.getvalue()):
            if up:
                row -= int(up)
            elif erase:
                rows[row] = ""
            elif moved == "\r":
                column = 0
            elif moved == "\n":
                row, column = row + 1, 0
                rows += [""] * (row + 1 - len(rows))
            else:
                rows[row] = rows[row][:column].ljust(column) + text + rows[row][column + 1 :]
                column += len(text)
        return [line.rstrip() for line in rows[: row + 1]]


def make(**environ: str) -> tuple[Live, Tape]:
    tape = Tape()
    environ = {"COLUMNS": "80", "TERM": "xterm-256color"} | environ
    return Live(tape, tape, verbose=False, clock=lambda: tape.now_s, environ=environ), tape


def follow(live: Live, tape: Tape, seconds: float, at: Callable[[float], Status]) -> None:
    for tick in range(round(seconds * 10)):
        live.status(at(tick / 10))
        tape.now_s = round(tape.now_s + 0.1, 1)


def standing(since_s: float = 0.0, **changes: Any) -> Callable[[float], Status]:
    return lambda age_s: status(
        **{"phase_since_s": since_s + age_s, "last_news_s": since_s + age_s} | changes
    )


def tell(live: Live, *events: Event) -> None:
    for event in events:
        live.event(entry(event))


# -- what moves ------------------------------------------------------------------------------------


def test_a_phase_before_the_first_step_is_one_line() -> None:
    loading = status(state="starting", phase="loading the model", phase_since_s=1.2)
    lines = texts(moving_lines(replace(loading, step=0, steps=0), [], 79))
    assert lines == ["loading the model · 1.2 s"]


def test_a_phase_with_a_known_size_has_a_bar() -> None:
    hashing = status(
        state="planning", phase="reading", rows=0, tokens=0, skipped=0, step=0, steps=0
    )
    hashing = replace(hashing, done=4, total=8, unit="files", phase_since_s=3.0)
    lines = texts(moving_lines(hashing, [], 40))
    assert lines[0] == "reading · 4 of 8 files · 3.0 s"
    assert lines[1] == "━" * 17 + "─" * 17 + "   50%"


def test_training_is_phase_bar_and_step() -> None:
    lines = texts(moving_lines(status(step=50), [8, 7, 6, 5, 4, 3, 2, 1], 79))
    assert lines[0].startswith("training · 3:12")
    assert lines[0].endswith("█▇▆▅▄▃▂▁")
    assert lines[1].endswith("   50%")
    assert lines[2].startswith("step 50/100 · loss 2.45")


def test_why_nothing_moves_is_below_what_moves() -> None:
    lines = texts(moving_lines(status(step=50, stall=stall()), [], 79))
    assert lines[2].startswith("step 50/100")
    assert lines[3] == "the trainer: it waits for a lock that it holds itself · for 12 s"


@pytest.mark.parametrize("width", [19, 39, 59, 79, 119])
def test_what_moves_never_wraps(width: int) -> None:
    told = status(stall=stall(what="日本" * 40))
    assert all(cells(line) <= width for line in texts(moving_lines(told, [], width)))
    long = status(waiting_for="s3://bucket/" + "日本" * 40, waiting_since_s=3.0)
    for shown in (status(), long, replace(long, state="planning", steps=0, step=0, total=3)):
        lines = texts(moving_lines(shown, [float(n) for n in range(100)], width))
        assert max(map(cells, lines)) <= width


def test_the_curve_keeps_the_whole_run_in_few_points() -> None:
    curve = Curve()
    for step in range(10_000):
        curve.add(10_000.0 - step)
    assert 64 <= len(curve.points) < 128
    assert curve.points == sorted(curve.points, reverse=True)
    assert curve.points[0] > 9_900
    assert curve.points[-1] < 200


# -- the view --------------------------------------------------------------------------------------


def test_the_view_shows_phase_and_step() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    assert "step 3/100 · loss 2.45 (avg 2.61) · 4,589 tok/s" in tape.getvalue()


@pytest.mark.parametrize("since_s", [0.0, 75.0, 7_300.0])
def test_there_is_something_new_every_second_however_long_nothing_happens(since_s: float) -> None:
    live, tape = make()
    follow(live, tape, 30, standing(since_s, state="starting", steps=0, step=0))
    times = [at for at, _ in tape.frames]
    assert max(after - before for before, after in itertools.pairwise(times)) <= 1.05
    assert live.max_silence <= 1.05


def test_a_wait_moves_too() -> None:
    live, tape = make()
    follow(
        live,
        tape,
        30,
        lambda age_s: status(waiting_for="the rows of step 4", waiting_since_s=age_s),
    )
    assert live.max_silence <= 1.05
    assert "waiting for the rows of step 4 0:29" in tape.getvalue()


def test_it_draws_at_most_four_times_a_second() -> None:
    live, tape = make()
    follow(live, tape, 10, lambda age_s: status(step=round(10 * age_s)))
    assert 30 <= len(tape.frames) <= 41


def test_what_stands_still_is_not_drawn_again() -> None:
    live, tape = make()
    follow(live, tape, 5, lambda _age_s: status())
    assert len(tape.frames) == 1


def test_silence_is_measured_even_while_it_lasts() -> None:
    live, tape = make()
    live.say("headway 0.1.0")
    tape.now_s += 3
    assert live.max_silence == pytest.approx(3)


def test_phases_that_took_a_while_leave_a_line() -> None:
    live, tape = make()
    reading = {"state": "planning", "phase": "reading", "rows": 1204, "tokens": 0, "skipped": 0}
    follow(live, tape, 3, standing(**reading, steps=0, step=0))
    follow(live, tape, 0.2, standing(state="starting", phase="starting", steps=0, step=0))
    follow(live, tape, 3, standing())
    follow(live, tape, 1, standing(state="saving", phase="saving"))
    live.close()
    assert tape.lines() == ["reading · 1,204 rows · 3.0 s", ""]


def test_the_plan_comes_after_the_phase_that_made_it() -> None:
    live, tape = make()
    follow(live, tape, 1, standing(state="planning", phase="deciding", steps=0, step=0, rows=0))
    live.plan(text_plan())
    assert tape.lines()[:2] == ["deciding · 12,267 tokens · 12 skipped · 1.0 s", "plan for notes"]


def test_events_stay_above_what_moves() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    tell(live, step_done(1), Saved(3, "checkpoint-3", 36_600_000, 0.8), Evaluated(3, 1.5, 100, 2))
    assert tape.lines()[:2] == [
        "saved checkpoint-3 · 36.6 MB · 0.8 s",
        "held out 1.50 after step 3 · 100 rows · 2.0 s",
    ]
    assert tape.lines()[2].startswith("training · 0.")
    assert tape.lines()[4].startswith("step 3/100")


def test_the_cursor_rests_where_an_echoed_key_does_no_harm() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    assert tape.lines()[-1] == ""
    tape.write("^C")
    follow(live, tape, 1, standing(5.0))
    live.close()
    assert tape.lines() == [""]


def test_what_a_model_writes_is_neither_markup_nor_a_command() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    tell(live, Sampled(3, "The", " [bold]cat[/bold] :smile: \x1b[31mred"))
    assert "[bold]cat[/bold] :smile: �[31mred" in tape.getvalue()


def test_a_line_to_copy_is_never_folded() -> None:
    live, tape = make(COLUMNS="40")
    follow(live, tape, 1, standing())
    line = "headway train " + "x" * 60
    live.say(line)
    assert line in tape.getvalue()


def test_colors_mean_something() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    live.plan(text_plan())
    assert "\x1b[2mdata       \x1b[0mnotes.txt" in tape.getvalue()
    tell(live, Noted(WARNING))
    assert "\x1b[33m! 1,598 tokens" in tape.getvalue()
    live.receipt(receipt())
    assert "\x1b[32mkept: 2,488 of 2,488" in tape.getvalue()
    broken, tape = make()
    follow(broken, tape, 1, standing())
    judged = Judgment("broken", ("it stopped",))
    broken.receipt(receipt(contract=judged, line="broken: it stopped"))
    assert "\x1b[31mbroken: it stopped" in tape.getvalue()


def test_a_refusal_is_red_where_somebody_reads_it() -> None:
    live, tape = make()
    live.refusal(
        DataRefused("notes.txt is too short", cause=Cause.TOO_LITTLE_DATA, have="100 tokens")
    )
    assert tape.getvalue() == "\x1b[31mnotes.txt is too short\x1b[39m\n  have  100 tokens\n"


def test_no_color_is_honored() -> None:
    live, tape = make(NO_COLOR="1")
    follow(live, tape, 1, standing())
    tell(live, Noted(WARNING))
    live.receipt(receipt())
    live.refusal(DataRefused("notes.txt is too short", cause=Cause.TOO_LITTLE_DATA))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", tape.getvalue())


def test_closing_takes_away_what_moved_and_gives_the_cursor_back() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    assert "\x1b[?25l" in tape.getvalue()
    live.close()
    live.close()
    assert tape.getvalue().rindex("\x1b[?25h") > tape.getvalue().rindex("\x1b[?25l")
    assert tape.lines() == [""]


def test_a_narrower_window_is_noticed() -> None:
    live, tape = make()
    follow(live, tape, 1, standing())
    live._environ = {"COLUMNS": "40"}
    before = len(tape.getvalue())
    follow(live, tape, 1, standing(7.0))
    drawn = re.split(r"[\r\n]+", ESCAPES.sub("", tape.getvalue()[before:]))
    assert max(map(cells, drawn)) <= 39


def test_an_ended_run_is_not_drawn() -> None:
    live, tape = make()
    follow(live, tape, 2, standing(state="finished"))
    assert tape.getvalue() == ""
