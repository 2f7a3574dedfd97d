import subprocess
import sys
from dataclasses import replace

import pytest
from tests.ui.fixtures import WIDTHS, entry, stall, status, step_done, texts

from headway.base.errors import Cause, DataRefused, Finding, Problems, Remedy, UsageError
from headway.base.events import (
    KINDS,
    AttemptStarted,
    Ended,
    Evaluated,
    Event,
    Noted,
    PhaseEntered,
    Probed,
    Refined,
    Resumed,
    Sampled,
    Saved,
    Stalled,
    StallEnded,
    StepPrinted,
    StopAsked,
)
from headway.ui import show_run as show
from headway.ui.text_layout import cells

# -- status --------------------------------------------------------------------------------------


def test_a_step_line_reads_as_designed() -> None:
    assert show.step_line(status()) == (
        "step 3/100 · loss 2.45 (avg 2.61) · 4,589 tok/s · 12,267 tokens · 12 skipped · 4 min left"
    )


def test_a_step_line_says_nothing_of_what_is_not_there() -> None:
    bare = status(step=0, loss=None, loss_average=None, tokens_per_second=None, tokens=0, skipped=0)
    assert show.step_line(replace(bare, seconds_left=None, global_step=0)) == "step 0/100"


def test_a_continued_run_shows_global_steps_as_well() -> None:
    line = show.step_line(status(global_step=2491, target_global_step=2588))
    assert line.startswith("step 3/100 · global 2,491/2,588 · loss 2.45")


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (80, "step 3/100 · loss 2.45 (avg 2.61) · 4,589 tok/s · 12 skipped · 4 min left"),
        (60, "step 3/100 · loss 2.45 (avg 2.61) · 4,589 tok/s · 4 min left"),
        (40, "step 3/100 · loss 2.45 · 4 min left"),
    ],
)
def test_a_narrow_step_line_keeps_what_matters(width: int, line: str) -> None:
    assert show.step_line(status(), width) == line


def test_a_busy_machine_is_named_in_the_status() -> None:
    busy = status(slowed_by=("other processes used 1.4 of 2 cores",))
    assert "slowed: other processes used 1.4 of 2 cores" in show.status_lines(busy, 80)
    assert not any("slowed" in line for line in show.status_lines(status(), 80))


def test_phase_lines_read_as_designed() -> None:
    reading = status(state="planning", phase="reading", rows=1204, tokens=33_120, skipped=0)
    waiting = replace(reading, waiting_for="standard input", waiting_since_s=3.2)
    assert show.phase_line(waiting) == (
        "reading · 1,204 rows · 33,120 tokens · waiting for standard input 3.2 s"
    )
    assert show.phase_line(waiting, 40) == "waiting for standard input 3.2 s"
    loading = status(state="starting", phase="loading the model", phase_since_s=1.2)
    assert show.phase_line(loading) == "loading the model · 1.2 s"


@pytest.mark.parametrize(
    ("done", "total", "unit", "amount"),
    [
        (2_100_000, 3_000_000, "bytes", "2.1 of 3.0 MB"),
        (900_000, 3_000_000, "bytes", "900.0 kB of 3.0 MB"),
        (0, 3_000_000, "bytes", "3.0 MB"),
        (5_000, 0, "bytes", "5.0 kB"),
        (1204, 0, "files", "1,204 files"),
        (3, 8, "batches", "3 of 8 batches"),
    ],
)
def test_a_phase_says_how_far_it_is(done: int, total: int, unit: str, amount: str) -> None:
    saving = status(phase="saving", phase_since_s=0.4, done=done, total=total, unit=unit)
    assert show.phase_line(saving) == f"saving · {amount} · 0.4 s"


def test_bytes_that_arrive_have_a_rate() -> None:
    what, bytes_ = "downloading the model", {"done": 30_000_000, "total": 90_000_000}
    loading = status(phase=what, phase_since_s=10.0, unit="bytes", **bytes_)
    assert show.phase_line(loading) == f"{what} · 30.0 of 90.0 MB · 3.0 MB/s · 10 s"


def test_silence_is_told() -> None:
    assert show.phase_line(status(last_news_s=31.0)) == "training · 3 min 12 s · no news for 31 s"
    assert "no news" not in show.phase_line(status(last_news_s=4.0))


def test_a_long_name_of_a_wait_never_hides_its_age() -> None:
    waiting = status(waiting_for="s3://bucket/" + "x" * 80, waiting_since_s=95.0)
    assert show.phase_line(waiting, 60).endswith("… 1 min 35 s")
    assert cells(show.phase_line(waiting, 60)) <= 60


def test_no_name_can_write_on_the_screen_by_itself() -> None:
    evil = "\x1b[2J\x07"
    named = status(run=evil, folder=evil, waiting_for=evil, line=evil)
    refused = DataRefused(
        evil, cause=Cause.TOO_LITTLE_DATA, have=evil, need=evil, remedies=(Remedy(evil, evil),)
    )
    lines = [
        *show.status_lines(named, 80),
        *show.runs_table([named], 80),
        *texts(show.refusal_lines(refused, 80)),
        *texts(show.news_lines(Noted(replace(refused.finding(), kind="warning")), 80)),
        show.phase_line(named),
    ]
    assert all(line.isprintable() for line in lines)


def test_a_run_that_stops_says_so_first() -> None:
    stopping = status(state="stopping", phase="saving", phase_since_s=0.4)
    assert show.phase_line(stopping) == "stopping · saving · 0.4 s"


@pytest.mark.parametrize("width", WIDTHS)
def test_a_status_fits_any_width(width: int) -> None:
    for state in ("planning", "training", "stopping", "died", "failed"):
        lines = show.status_lines(status(state=state), width)
        assert max(map(cells, lines)) <= width


def test_the_status_of_a_dead_run_says_how_to_resume() -> None:
    died = status(state="died", phase="saving", phase_since_s=60.0, seconds_left=None)
    lines = show.status_lines(died, 80)
    assert lines[0] == "notes · died 1 min ago while saving"
    assert "run the same command again to resume from the last checkpoint" in lines
    watched = replace(died, phase="died", line="headway guard was killed")
    assert show.status_lines(watched, 80)[0] == "notes · died 1 min ago"
    assert "last checkpoint" not in " ".join(show.status_lines(watched, 80))


def test_the_status_of_a_finished_run_is_its_closing_line() -> None:
    finished = status(state="finished", step=100, phase_since_s=7200.0, line="kept: 100 of 100")
    lines = show.status_lines(replace(finished, seconds_left=None), 80)
    assert lines[0] == "notes · finished 2 h ago"
    assert "kept: 100 of 100" in lines
    assert lines[-1] == "runs/notes"


# -- runs ----------------------------------------------------------------------------------------

RUNS = [
    status(),
    status(run="shakespeare-2", state="finished", step=100, phase_since_s=3600.0),
    status(run="b", state="planning", loss=None, steps=0, tokens=0, held_out_last=None),
]


def test_runs_are_a_table() -> None:
    assert show.runs_table(RUNS, 80) == [
        "run            state        step  loss  held out  tokens  when",
        "notes          training    3/100  2.45      1.52  12,267  4 min left",
        "shakespeare-2  finished  100/100  2.45      1.52  12,267  1 h ago",
        "b              planning                                   for 3 min 12 s",
    ]


def test_a_narrow_table_leaves_columns_out() -> None:
    for width in WIDTHS:
        assert max(map(cells, show.runs_table(RUNS, width))) <= width
    assert show.runs_table(RUNS, 40)[1] == "notes          training    3/100  2.45"


# -- events --------------------------------------------------------------------------------------

EVENTS: list[tuple[Event, str]] = [
    (AttemptStarted("notes", "0.1.0", 7, 0, ""), "notes started · headway 0.1.0"),
    (
        AttemptStarted("notes", "0.1.0", 7, 2488, "checkpoint-2488"),
        "notes resumed from checkpoint-2488 at global step 2,488 · headway 0.1.0",
    ),
    (Resumed("checkpoint-500", 500), "continuing from checkpoint-500 at global step 500"),
    (PhaseEntered("loading the model"), "loading the model"),
    (Probed("before", 2.412, 2.441), "before training: loss 2.41, held out 2.44"),
    (Probed("after", 1.37, None), "after training: loss 1.37"),
    (
        step_done(3),
        "step 3 · loss 2.50 · gradient norm 1.20 · learning rate 2e-4 · 8 rows · 400 tokens"
        " · 0.5 s",
    ),
    (Refined(725.0, 4589.0), "measured: about 12 min in total"),
    (Evaluated(500, 1.52, 100, 2.1), "held out 1.52 after step 500 · 100 rows · 2.1 s"),
    (Sampled(500, "The", " cat\nsat"), "sample after step 500: The cat↵sat"),
    (Saved(500, "checkpoint-500", 36_600_000, 0.8), "saved checkpoint-500 · 36.6 MB · 0.8 s"),
    (
        StepPrinted(12, 100, 0.5, 2.5, 2e-4),
        "step 12/100 · epoch 0.5 · loss 2.50 · learning rate 2e-4",
    ),
    (
        Stalled(1, "the trainer", "deadlock", 12.0, "training", Finding("warning", "a lock"), ""),
        "the trainer stalled: a lock · no progress for 12 s while training",
    ),
    (StallEnded(1, "deadlock", 12.0, "itself"), "it is moving again after 12 s"),
    (Noted(Finding("warning", "the loss rose")), "! the loss rose"),
    (
        StopAsked("SIGINT", "training"),
        "stop requested by Ctrl+C while training: finishing the step and saving",
    ),
    (Ended("finished", 0, "kept: 3 of 3 steps"), "finished, exit 0 · kept: 3 of 3 steps"),
]


DEADLOCK = Finding("warning", "it waits for itself", "one lock", "two", (Remedy("do this", "x"),))


def test_a_stall_stays_with_cause_facts_and_fix() -> None:
    event = Stalled(1, "the trainer", "deadlock", 12.0, "training", DEADLOCK, "stall-1.txt")
    assert texts(show.news_lines(event, 100)) == [
        "the trainer stalled: it waits for itself · no progress for 12 s while training",
        "  have  one lock",
        "  need  two",
        "  try   do this   x",
        "  see   stall-1.txt",
    ]


@pytest.mark.parametrize(
    ("by", "line"),
    [
        ("itself", "it is moving again after 12 s"),
        ("death", "the process that stalled ended after 12 s"),
        ("restart", "the process that stalled is replaced after 12 s"),
        ("stop", "the run stops because of the stall after 12 s"),
        ("of another version", "the stall is over after 12 s"),
    ],
)
def test_the_end_of_a_stall_says_how_it_ended(by: str, line: str) -> None:
    assert show.event_line(StallEnded(1, "deadlock", 12.0, by)) == line


def test_the_status_says_why_nothing_is_new_and_what_to_do() -> None:
    lines = show.status_lines(status(stall=stall()), 80)
    assert lines[2:5] == [
        "the trainer: it waits for a lock that it holds itself · for 12 s",
        "  try   headway diagnose notes --verbose",
        "  see   stall-1.txt",
    ]
    assert "it waits for a lock that it holds itself" not in lines[1]


def test_a_plain_line_says_why_nothing_is_new() -> None:
    slow = stall(what="a slow source", is_stall=False, tries=(), file="")
    assert show.phase_line(status(stall=slow)).endswith("· a slow source")


@pytest.mark.parametrize(("is_stall", "style"), [(True, "yellow"), (False, "dim")])
def test_only_a_stall_is_a_warning(is_stall: bool, style: str) -> None:
    first, *_ = show.stall_lines(status(stall=stall(is_stall=is_stall, then="waits")), 80)
    assert first.pieces[0][1] == style
    assert first.text.endswith("for 12 s · waits")


def test_a_wait_for_rows_says_how_many_there_were() -> None:
    waiting = status(waiting_for="the rows of step 17", waiting_since_s=12.0)
    line = show.phase_line(replace(waiting, rows_read=64, tokens_read=1234))
    assert line.endswith(
        "waiting for data, the rows of step 17: 64 rows, 1,234 tokens so far, 12 s"
    )


def test_a_step_is_finished_only_where_there_is_one() -> None:
    for doing in ("", "saving", "importing torch", "checking the packing"):
        assert "finishing" not in show.event_line(StopAsked("SIGTERM", doing))


@pytest.mark.parametrize(
    ("step", "checkpoint", "where"),
    [(0, "", "the start at global step 0"), (7, "checkpoint-7", "checkpoint-7 at global step 7")],
)
def test_a_restart_says_in_a_line_what_happened_and_where_it_goes_on(
    step: int, checkpoint: str, where: str
) -> None:
    after = "worker 3 of 4 (group 1) was killed by SIGKILL"
    event = AttemptStarted("notes", "0.1.0", 7, step, checkpoint, restarts=2, after=after)
    line = f"{after}: new workers continue from {where} · restart 2"
    assert show.event_line(event) == line
    assert texts(show.news_lines(event, 300)) == [line]


@pytest.mark.parametrize(("event", "line"), EVENTS, ids=[type(e).__name__ for e, _ in EVENTS])
def test_every_event_has_a_line(event: Event, line: str) -> None:
    assert show.event_line(event) == line


def test_no_kind_of_event_is_forgotten() -> None:
    assert {type(event) for event, _ in EVENTS} == set(KINDS.values())


def test_a_log_line_says_when_and_in_which_attempt() -> None:
    saved = Saved(500, "checkpoint-500", 36_600_000, 0.8)
    assert show.log_line(entry(saved, at_s=65)) == (
        "2025-11-20 16:01:05  saved checkpoint-500 · 36.6 MB · 0.8 s"
    )
    assert show.log_line(entry(saved, attempt=2)).startswith("2025-11-20 16:00:00  #2 saved")


def test_only_news_stays_on_the_screen() -> None:
    silent = [step_done(3), PhaseEntered("saving"), AttemptStarted("notes", "0.1.0", 7, 0, "")]
    silent += [Ended("finished", 0, "kept"), Noted(Finding("ok", "fine"))]
    assert [show.news_lines(event, 80) for event in silent] == [[]] * 5
    warning = Noted(Finding("warning", "the loss rose", "2.4", remedies=(Remedy("--lr 1e-4"),)))
    assert texts(show.news_lines(warning, 80)) == [
        "! the loss rose",
        "  have  2.4",
        "  try   --lr 1e-4",
    ]


def test_a_long_sample_is_cut_to_four_lines() -> None:
    lines = texts(show.news_lines(Sampled(500, "The", " cat sat" * 200), 60))
    assert len(lines) == 4
    assert lines[-1].endswith("…")


def test_a_refusal_is_told_in_four_parts_and_several_one_after_the_other() -> None:
    short = DataRefused(
        "notes.txt is too short for one row",
        cause=Cause.TOO_LITTLE_DATA,
        have="100 tokens",
        remedies=(Remedy("more text"),),
    )
    assert texts(show.refusal_lines(short, 40)) == [
        "notes.txt is too short for one row",
        "  have  100 tokens",
        "  try   more text",
    ]
    both = Problems(
        (
            UsageError("unknown setting --lrr", cause=Cause.INVALID_VALUE),
            UsageError("--bs: 0 does not fit", cause=Cause.INVALID_VALUE),
        )
    )
    assert texts(show.refusal_lines(both, 40)) == ["unknown setting --lrr", "--bs: 0 does not fit"]


def test_showing_a_status_needs_neither_torch_nor_numpy_nor_rich() -> None:
    code = (
        "import sys; import headway.ui.screens, headway.ui.show_plan\n"
        "assert not {'torch', 'numpy', 'rich', 'transformers'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
