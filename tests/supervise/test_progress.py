from typing import Any

import msgspec
import pytest
from tests.ui.fixtures import entry, pulse, step_done

from headway.base.errors import Cause, Finding, Remedy
from headway.base.events import (
    AttemptStarted,
    Ended,
    Evaluated,
    PhaseEntered,
    Probed,
    Saved,
    StepPrinted,
    StopAsked,
)
from headway.diagnose.diagnosis import StallCause
from headway.supervise.progress import Aim, Progress, Readings, Status, fold
from headway.supervise.stalls.note import StallNote

WALL_S = 1763654400.0  # 2025-11-20T16:00:00Z, where `entry` begins


def started(global_step: int = 0, resumed_from: str = "") -> AttemptStarted:
    return AttemptStarted("notes", "0.1.0", 4242, global_step, resumed_from)


def worker(**changes: Any) -> Readings:
    return Readings(workers=(pulse(**changes),))


def first_steps(num: int, *, aim: Aim | None = None) -> Progress:
    progress = Progress(aim=aim or Aim(0, 100))
    progress.take(entry(started()))
    for step in range(1, num + 1):
        progress.take(entry(step_done(step, loss=float(step)), at_s=step))
    return progress


def test_nothing_but_a_plan_is_planned() -> None:
    status = fold([], Readings(), now_s=0.0, living=False, aim=Aim(0, 100))
    assert (status.state, status.step, status.steps) == ("planned", 0, 100)


def test_while_there_is_a_planner_it_speaks() -> None:
    planner = pulse(phase="reading", phase_since=95.0, rows=1204, tokens=33_120, skipped=3)
    readings = Readings(planner, (pulse(phase="starting"),))
    status = fold([], readings, now_s=100.0)
    assert (status.state, status.phase, status.phase_since_s) == ("planning", "reading", 5.0)
    assert (status.rows, status.tokens, status.skipped) == (1204, 33_120, 3)


@pytest.mark.parametrize(
    ("phase", "state"),
    [
        ("loading the model", "starting"),
        ("running", "running"),
        ("probing", "evaluating"),
        ("training", "training"),
        ("saving", "saving"),
        ("sampling", "sampling"),
    ],
)
def test_the_state_follows_the_phase(phase: str, state: str) -> None:
    assert fold([entry(started())], worker(phase=phase), now_s=100.0).state == state


def test_a_phase_nobody_knows_counts_as_training_once_there_was_a_step() -> None:
    progress = first_steps(1)
    assert progress.status(worker(phase="auditing the weights"), 100.0).state == "training"


def test_a_wait_is_named_and_timed() -> None:
    status = fold([], worker(waiting="the rows of step 3", waiting_since=96.8), now_s=100.0)
    assert status.waiting_for == "the rows of step 3"
    assert status.waiting_since_s == pytest.approx(3.2)


def test_steps_are_counted_in_the_job_and_globally() -> None:
    progress = Progress(aim=Aim(2488, 500))
    progress.take(entry(started(2488)))
    progress.take(entry(step_done(3, first=2488)))
    status = progress.status(worker(), 100.0)
    assert (status.step, status.steps) == (3, 500)
    assert (status.global_step, status.target_global_step) == (2491, 2988)


def test_without_a_plan_the_first_start_tells_where_the_job_began() -> None:
    status = fold(
        [entry(started(2488)), entry(step_done(3, first=2488))], worker(steps=500), now_s=100.0
    )
    assert (status.step, status.steps, status.target_global_step) == (3, 500, 2988)


LOST = Finding("refused", "worker 2 is gone", cause=Cause.WORKER_LOST)


def test_a_run_whose_supervisor_may_restart_it_has_not_ended() -> None:
    progress = first_steps(3)
    progress.take(entry(Ended("failed", 5, "broken", LOST)))
    status = progress.status(worker(phase="writing the receipt"), 100.0)
    assert (status.ended, status.exit_code, status.line) == (False, None, "")
    assert progress.status(worker(), 100.0, living=False).state == "failed"


def test_any_other_failure_has_ended_it() -> None:
    progress = first_steps(3)
    full = Finding("refused", "no room", cause=Cause.DISK_FULL)
    progress.take(entry(Ended("failed", 5, "broken", full)))
    assert progress.status(worker(), 100.0).exit_code == 5


def test_the_average_loss_is_that_of_the_last_20_steps() -> None:
    status = first_steps(30).status(worker(), 100.0)
    assert status.loss == 30.0
    assert status.loss_average == pytest.approx(sum(range(11, 31)) / 20)


def test_speed_is_that_of_the_last_ten_seconds() -> None:
    progress = first_steps(0)
    for step, spent_s in enumerate([100.0, 5.0, 5.0], start=1):
        progress.take(entry(step_done(step, seconds=spent_s)))
    assert progress.status(worker(), 0.0).tokens_per_second == pytest.approx(800 / 10)


def test_time_left_is_estimated_at_first_and_measured_from_the_third_step() -> None:
    aim = Aim(0, 100, seconds=200.0)
    assert first_steps(0, aim=aim).status(worker(), 0.0).seconds_left == pytest.approx(200.0)
    assert first_steps(2, aim=aim).status(worker(), 0.0).seconds_left == pytest.approx(196.0)
    assert first_steps(3, aim=aim).status(worker(), 0.0).seconds_left == pytest.approx(48.5)


def test_unmeasured_time_is_not_estimated_from_the_slow_first_steps() -> None:
    assert first_steps(2).status(worker(), 0.0).seconds_left is None


def test_one_slow_step_does_not_move_the_end_away() -> None:
    progress = first_steps(9)
    progress.take(entry(step_done(10, seconds=60.0)))
    assert progress.status(worker(), 0.0).seconds_left == pytest.approx(45.0)


def test_steps_of_a_lost_attempt_are_taken_back() -> None:
    progress = first_steps(10)
    progress.take(entry(Saved(4, "checkpoint-4", 1, 0.1)))
    progress.take(entry(started(4, "checkpoint-4"), attempt=2))
    status = progress.status(worker(phase="loading the model"), 100.0)
    assert (status.state, status.step, status.attempt) == ("starting", 4, 2)
    assert (status.tokens, status.rows) == (4 * 400, 4 * 8)
    assert status.loss is status.loss_average is None
    progress.take(entry(step_done(5), attempt=2))
    assert progress.status(worker(), 100.0).tokens == 5 * 400


def test_a_resumed_jobs_pulse_counts_what_was_trained_before() -> None:
    progress = Progress(aim=Aim(0, 100))
    progress.take(entry(started(50, "checkpoint-50"), attempt=2))
    status = progress.status(worker(tokens=20_000, rows=400), 100.0)
    assert (status.step, status.tokens, status.rows) == (50, 20_000, 400)


def test_held_out_keeps_the_first_and_the_last() -> None:
    looks = [Probed("before", 2.4, 2.44), Evaluated(50, 1.8, 100, 1.0), Probed("after", 1.3, 1.52)]
    status = fold([entry(look) for look in looks], Readings(), now_s=0.0)
    assert (status.held_out_first, status.held_out_last) == (2.44, 1.52)
    bare = fold([entry(Probed("before", 2.4, None))], Readings(), now_s=0.0)
    assert bare.held_out_first is None


def test_a_run_that_was_asked_to_stop_is_stopping_until_it_has() -> None:
    progress = first_steps(3)
    progress.take(entry(StopAsked("SIGINT")))
    assert progress.status(worker(phase="saving"), 100.0).state == "stopping"
    progress.take(entry(Ended("interrupted", 130, "kept: 3 of 100 steps"), at_s=10))
    status = progress.status(worker(), 100.0, wall_s=WALL_S + 70, living=False)
    assert (status.state, status.exit_code, status.line) == (
        "interrupted",
        130,
        "kept: 3 of 100 steps",
    )
    assert status.phase_since_s == pytest.approx(60.0)
    assert status.seconds_left is None


def test_a_run_whose_owner_is_gone_died_in_its_last_phase() -> None:
    log = [entry(started()), entry(PhaseEntered("saving"), at_s=30)]
    status = fold(log, Readings(), now_s=0.0, wall_s=WALL_S + 90, living=False)
    assert (status.state, status.phase) == ("died", "saving")
    assert status.phase_since_s == status.last_news_s == pytest.approx(60.0)


def test_a_step_after_a_save_means_that_the_save_is_over() -> None:
    log = [entry(started()), entry(PhaseEntered("saving")), entry(step_done(1), at_s=1)]
    assert fold(log, Readings(), now_s=0.0, living=False).phase == "training"


def test_a_new_attempt_forgets_how_the_last_one_ended() -> None:
    progress = first_steps(3)
    progress.take(entry(Ended("failed", 5, "out of memory")))
    progress.take(entry(started(2, "checkpoint-2"), attempt=2))
    status = progress.status(worker(), 100.0)
    assert (status.state, status.line, status.exit_code) == ("training", "", None)


def test_the_last_news_is_the_newest_of_all_pulses_and_events() -> None:
    readings = Readings(workers=(pulse(updated=90.0), pulse(rank=1, updated=97.0)))
    assert fold([], readings, now_s=100.0).last_news_s == pytest.approx(3.0)
    with_event = fold([entry(started())], readings, now_s=100.0, wall_s=WALL_S + 1)
    assert with_event.last_news_s == pytest.approx(1.0)
    assert fold([], Readings(), now_s=100.0).last_news_s is None


def test_the_lowest_rank_speaks_for_the_job() -> None:
    readings = Readings(workers=(pulse(rank=1, phase="saving"), pulse(rank=0, phase="training")))
    assert fold([entry(started())], readings, now_s=0.0).phase == "training"


def test_status_goes_to_json_and_back() -> None:
    status = first_steps(3).status(worker(), 100.0)
    assert status.schema == "headway.status/1"
    assert msgspec.json.decode(msgspec.json.encode(status), type=Status) == status


def test_however_long_the_run_little_is_remembered_of_it() -> None:
    progress = first_steps(2000, aim=Aim(0, 2000))
    assert len(progress._recent) == 20
    assert progress.status(worker(), 0.0).tokens == 2000 * 400


def test_another_program_has_the_steps_that_it_printed() -> None:
    progress = Progress(aim=Aim(0, 0))
    progress.take(entry(started()))
    progress.take(entry(StepPrinted(3, 90, None, 3.0, None)))
    progress.take(entry(StepPrinted(4, 90, 0.5, None, None)))
    progress.take(entry(StepPrinted(5, 90, None, 2.0, None)))
    status = progress.status(Readings(), 0.0)
    assert (status.step, status.steps, status.loss, status.loss_average) == (5, 90, 2.0, 2.5)


def test_another_attempt_of_another_program_begins_without_steps() -> None:
    progress = Progress()
    progress.take(entry(started()))
    progress.take(entry(StepPrinted(3, 90, None, 3.0, None)))
    progress.take(entry(started()))
    status = progress.status(Readings(), 0.0)
    assert (status.step, status.loss) == (0, None)


def test_why_nothing_is_new_comes_from_the_note_of_the_live_folder() -> None:
    finding = Finding("warning", "it waits for itself", remedies=(Remedy("do this"),))
    note = StallNote(StallCause.DEADLOCK, finding, True, "the trainer", since=90.0)
    told = Progress("notes").status(Readings(workers=(pulse(),), stall=note), 102.0)
    assert told.stall is not None
    assert (told.stall.what, told.stall.since_s) == ("it waits for itself", 12.0)
    assert Progress("notes").status(Readings(stall=note), 102.0).stall is None  # nobody is there


def test_rows_are_counted_by_their_reader_only_while_they_are_waited_for() -> None:
    reader = pulse(phase="reading", rows=64, tokens=1234)
    waiting = pulse(waiting="the rows of step 3", activity="waiting for data")
    told = Progress("notes").status(Readings(workers=(waiting,), reader=reader), 1.0)
    assert (told.rows_read, told.tokens_read) == (64, 1234)
    busy = Progress("notes").status(Readings(workers=(pulse(),), reader=reader), 1.0)
    assert (busy.rows_read, busy.tokens_read) == (0, 0)
