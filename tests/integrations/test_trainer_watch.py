"""Trainer watch: what one run leaves on disk, whatever happens to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.integrations.facts import facts
from tests.integrations.trainers import collate, rows, tiny_model

from headway.base.errors import Cause, Finding, MachineError, Refusal
from headway.base.events import Ended, Noted, StepDone, read_events
from headway.base.pulse import Phase, read_pulse
from headway.integrations.ending import WatchEnding
from headway.integrations.trainer_watch import TrainerWatch
from headway.runs.watched.watched_receipt import load_watched_receipt
from headway.runs.watched.watched_run import WatchedRun, WatchedSteps
from headway.supervise.live.watched_job import WatchedJob

pytestmark = pytest.mark.usefixtures("runtime")
Make = Callable[..., TrainerWatch]


@pytest.fixture
def said() -> list[Refusal | Finding]:
    return []


@pytest.fixture
def ends() -> list[str]:
    return []


@pytest.fixture
def model() -> torch.nn.Module:
    return tiny_model()


@pytest.fixture
def watch(tmp_path: Path, said: list[Any], ends: list[str], model: torch.nn.Module) -> TrainerWatch:
    run = WatchedRun("r", "callback", "Trainer", steps=WatchedSteps(0, 16))
    job = WatchedJob(run, tmp_path / "runs")
    return TrainerWatch(job, facts(), model, said.append, on_end=lambda: ends.append("end"))


def one_step(watch: TrainerWatch, model: torch.nn.Module, number: int, rate: float = 0.1) -> None:
    """A step of plain torch, told to the watch as the Trainer tells it."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    batch = collate(rows(4, seed=number))
    with watch.waiting():
        pass
    with watch.computing(batch):
        loss = model(**batch).loss
        loss.backward()
    watch.batch_done(loss)
    watch.grad_norm_known(torch.tensor(1.5))
    watch.before_update(optimizer, may_overflow=False)
    optimizer.step()
    watch.after_update(number, number / 8, applied=True)


def logged(watch: TrainerWatch, kind: type[Any]) -> list[Any]:
    log = read_events(watch.job.folder / "events.jsonl")
    return [entry.event for entry in log if isinstance(entry.event, kind)]


def test_steps_are_in_the_log_and_in_the_pulse(watch: TrainerWatch, model: torch.nn.Module) -> None:
    for number in (1, 2):
        one_step(watch, model, number)
    steps = logged(watch, StepDone)
    assert [(s.step, s.global_step, s.rows, s.grad_norm) for s in steps] == [
        (1, 1, 4, 1.5),
        (2, 2, 4, 1.5),
    ]
    reading = read_pulse(watch.job.live / "rank-0.pulse")
    assert reading is not None
    assert (reading.step, reading.steps, reading.rows, reading.phase) == (2, 16, 8, "training")
    assert reading.computing_s > 0
    with watch.saving():
        during = read_pulse(watch.job.live / "rank-0.pulse")
        assert during is not None
        assert (during.phase, during.activity) == (Phase.SAVING, "saving")
    with watch.waiting():
        during = read_pulse(watch.job.live / "rank-0.pulse")
        assert during is not None
        assert during.waiting == "the next batch"
    watch.end(WatchEnding("finished"))


def test_what_it_takes_from_the_training_thread_is_in_the_receipt(
    watch: TrainerWatch, model: torch.nn.Module
) -> None:
    for number in range(1, 4):
        one_step(watch, model, number)
    watch.end(WatchEnding("finished"))
    time = load_watched_receipt(watch.job.folder).time
    assert 0 < time.watching_steps < time.watching < time.total
    assert 0 < time.steps < time.total


def test_it_ends_once(watch: TrainerWatch, ends: list[str]) -> None:
    watch.raised(RuntimeError("first"))
    watch.raised(RuntimeError("second"))
    watch.end_normally(16, stopped=False)
    watch.end_abandoned()
    assert ends == ["end"]
    (ended,) = logged(watch, Ended)
    assert (ended.outcome, ended.finding.what) == ("failed", "RuntimeError: first")


def test_a_run_that_nobody_ended_has_failed(watch: TrainerWatch) -> None:
    watch.end_abandoned()
    assert load_watched_receipt(watch.job.folder).outcome == "failed"


def test_a_disk_that_takes_no_line_ends_no_training(
    watch: TrainerWatch, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise MachineError("full", cause=Cause.DISK_FULL)

    monkeypatch.setattr(watch.job.log, "write", full)
    one_step(watch, model, 1)
    monkeypatch.undo()
    watch.end(WatchEnding("finished"))
    assert load_watched_receipt(watch.job.folder).steps.applied == 1


def test_a_problem_is_told_once_and_logged(
    watch: TrainerWatch, model: torch.nn.Module, said: list[Any]
) -> None:
    for number in range(1, 13):
        one_step(watch, model, number, rate=1e-30)  # changes nothing
    assert [problem.cause for problem in said] == [Cause.CONTRACT_BROKEN]
    assert [noted.finding.cause for noted in logged(watch, Noted)] == [Cause.CONTRACT_BROKEN]
    watch.end(WatchEnding("finished"))


def test_weights_are_not_judged_before_a_rate_could_move_them(
    watch: TrainerWatch, model: torch.nn.Module, said: list[Any]
) -> None:
    for number in range(1, 12):
        one_step(watch, model, number, rate=0.0)
    assert said == []
    watch.end(WatchEnding("finished"))
    receipt = load_watched_receipt(watch.job.folder)
    assert "the learning rate was 0 in every step" in receipt.contract.reasons


def test_updates_that_the_trainer_skipped_are_no_steps(
    watch: TrainerWatch, model: torch.nn.Module
) -> None:
    one_step(watch, model, 1)
    batch = collate(rows(4, seed=2))
    with watch.computing(batch):
        pass
    watch.before_update(torch.optim.SGD(model.parameters(), lr=0.1), may_overflow=True)
    watch.after_update(2, 0.5, applied=False)
    assert len(logged(watch, StepDone)) == 1
    watch.end_normally(16, stopped=False)
    assert load_watched_receipt(watch.job.folder).learning_facts.skipped_steps == 1
