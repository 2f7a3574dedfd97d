"""Watched job: a run of another program is live while it lasts, and ended afterwards."""

from pathlib import Path

import pytest

from headway.base.events import Ended, StepDone
from headway.base.lock import is_held
from headway.base.pulse import Phase
from headway.runs.watched.watched_run import WatchedRun, WatchedSteps, load_watched
from headway.supervise.live.live_jobs import all_statuses, find_process, find_status
from headway.supervise.live.watched_job import WatchedJob

RUN = WatchedRun("notes", "callback", "Trainer", steps=WatchedSteps(8, 16))
pytestmark = pytest.mark.usefixtures("runtime")


def step(number: int) -> StepDone:
    return StepDone(number, 8 + number, 1, 2.5, 1.0, 1e-3, 4, 30, 40, 40, 0.5)


def test_it_is_live_with_its_steps_and_its_pulse(tmp_path: Path) -> None:
    job = WatchedJob(RUN, tmp_path, resumed_from="checkpoint-8")
    try:
        job.pulse.enter(Phase.TRAINING)
        job.log.write(step(1))
        (status,) = all_statuses(tmp_path)
        assert (status.run, status.state, status.step, status.steps) == ("notes", "training", 1, 16)
        assert (status.global_step, status.target_global_step) == (9, 24)
        assert status.phase == "training"
        process = find_process(status)
        assert process is not None
        assert process.is_alive
    finally:
        job.close()


def test_closed_it_has_ended_or_died(tmp_path: Path) -> None:
    job = WatchedJob(RUN, tmp_path)
    job.close()
    job.close()
    assert not is_held(job.folder / "run.lock")
    assert find_status("notes", tmp_path).state == "died"
    job.log.write(Ended("failed", 4, "broken: x"))
    assert find_status("notes", tmp_path).state == "failed"


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        job = WatchedJob(RUN, tmp_path)
        job.close()
        names.append(job.run.name)
        assert load_watched(job.folder) == job.run
    assert names == ["notes", "notes-2", "notes-3"]
