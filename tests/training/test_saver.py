"""Saver: when it saves, and what it says of it."""

import errno
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import Ran, causal, decided, in_memory, plan_of, run, weight_hashes
from tests.training.clock import Clock
from tests.training.jobs import planned

from headway.base.errors import Cause, Exit, Finding, MachineError, Remedy
from headway.base.events import (
    Ended,
    Evaluated,
    EventLog,
    Noted,
    Saved,
    StepDone,
    read_events,
)
from headway.base.pulse import Pulse
from headway.data.survey.store import Store
from headway.model.load import trainable
from headway.runs.folder import RunFolder
from headway.runs.receipt import Measured, ReceiptCheckpoint
from headway.training import saver as saving
from headway.training.attempt import Attempt
from headway.training.failures import TRACEBACK
from headway.training.optimizer import make_optimizer
from headway.training.phases import Phases
from headway.training.saver import Saver, Written
from headway.training.trainer import Trainer
from headway.training.weights import checkpoint
from headway.training.weights.checkpoint import Snapshot

PLAN = plan_of(in_memory(1601), max_length=16)


def saver(folder: Path, **changes: Any) -> Saver:
    saves = replace(PLAN.saves, **changes)
    log = EventLog(folder / "events.jsonl")
    return Saver(RunFolder(folder), replace(PLAN, saves=saves), log, Phases(Pulse(), log))


def test_a_save_is_due_by_steps(tmp_path: Path) -> None:
    one = saver(tmp_path, every_steps=4, every_minutes=1000)
    assert [step for step in range(1, 13) if one.is_due(step)] == [4, 8, 12]


def test_a_save_is_due_by_minutes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(saving, "time", clock)
    one = saver(tmp_path, every_steps=1000, every_minutes=2)
    clock.now_s += 119
    assert not one.is_due(7)
    clock.now_s += 1
    assert one.is_due(7)


def test_a_save_is_due_where_one_is_to_be_kept(tmp_path: Path) -> None:
    one = saver(tmp_path, every_steps=4, every_minutes=1000, keep_every=6)
    assert [step for step in range(1, 13) if one.is_due(step)] == [4, 6, 8, 12]


def test_a_save_is_due_when_somebody_touches_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(saving, "time", clock)
    one = saver(tmp_path, every_steps=1000, every_minutes=1000)
    (tmp_path / "save").touch()
    assert not one.is_due(7)  # it looks once a second, however short the steps are
    clock.now_s += 1
    assert one.is_due(8)
    (told,) = read_events(tmp_path / "events.jsonl")
    assert told.event == Noted(Finding("ok", f"saving: {tmp_path / 'save'} requests it"))
    (tmp_path / "save").unlink()
    clock.now_s += 1
    assert not one.is_due(9)


def test_what_is_left_to_save_counts_the_save_that_is_on_its_way(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(saving, "time", clock)
    one = saver(tmp_path, every_steps=4, every_minutes=1000)
    one._save_s = 3.0
    assert one.left_s() == 3
    one._writing, one._start_s = Future(), clock.now_s
    clock.now_s += 1
    assert one.left_s() == 2 + 3
    one._writing.set_result(Written(ReceiptCheckpoint("checkpoint-1", "", 1), 5.0))
    assert one.left_s() == 3
    one.check()
    assert one.left_s() == 5  # what the last whole save took


# ---- beside the loop ---------------------------------------------------------------------------


def slow_write(patch: pytest.MonkeyPatch, until: Callable[[str], bool]) -> None:
    """Let no checkpoint be written until something is so; a minute is for ever."""
    real = Snapshot.write

    def write(self: Snapshot, final: Path, *given: Any) -> Any:
        end_s = time.monotonic() + 60
        while not until(final.name):
            assert time.monotonic() < end_s, "the loop waits for the writer"
            time.sleep(0.001)
        return real(self, final, *given)

    patch.setattr(Snapshot, "write", write)


def test_the_loop_goes_on_while_a_checkpoint_is_written(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is written is the state as it was at its step."""
    plan = planned(here, save_steps=4, max_steps=7, save_total_limit=9)
    twin = run(tmp_path / "twin", plan)
    done: list[int] = []
    slow_write(monkeypatch, lambda name: name != "checkpoint-4" or 7 in done)
    ran = run(tmp_path / "run", plan, on=lambda e, _: done.append(getattr(e, "step", 0)))
    assert ran.code == Exit.KEPT
    for name in ("checkpoint-4", "checkpoint-7"):
        assert weight_hashes(ran.folder.path / name) == weight_hashes(twin.folder.path / name)
    assert ran.of(Saved)[0].stall < ran.of(Saved)[0].seconds


def test_a_save_waits_by_name_for_the_one_before(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []

    def awaited(name: str) -> bool:
        return name != "checkpoint-2" or jobs[0].pulse._waiting == "checkpoint-2 to be on the disk"

    slow_write(monkeypatch, awaited)
    ran = run(tmp_path / "run", planned(here, save_steps=2), on=lambda _, job: jobs.append(job))
    assert ran.code == Exit.KEPT
    assert [e.global_step for e in ran.of(Saved)] == [2, 4, 6, 8, 10, 12, 14]


def test_a_disk_that_takes_no_end_is_not_waited_for_for_ever(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saving, "PATIENCE_S", 0.05)
    let_go = threading.Event()
    slow_write(monkeypatch, lambda _: let_go.is_set())
    ran = run(tmp_path / "run", planned(here, save_steps=4))
    let_go.set()
    assert ran.code == Exit.MACHINE
    (ended,) = ran.of(Ended)
    assert ended.finding is not None
    assert ended.finding.what == "checkpoint-4 is not on the disk after 0.1 s"
    writer = ran.job.attempt.saver._writing
    assert writer is not None
    writer.result(60)


def test_the_same_memory_takes_every_copy() -> None:
    model = causal("llama", tie_word_embeddings=True)
    parameters = trainable(model)
    snapshot = Snapshot(model, make_optimizer(parameters, PLAN.learning), parameters)
    places = [t.data_ptr() for t in snapshot._weights.values()]
    for step in range(2):
        with torch.no_grad():
            parameters["model.norm.weight"].add_(step)
        snapshot.take()
        weights = snapshot._weights
        assert [t.data_ptr() for t in weights.values()] == places
        assert torch.equal(weights["model.norm.weight"], parameters["model.norm.weight"])
        assert weights["lm_head.weight"] is weights["model.embed_tokens.weight"]


# ---- a save that fails -------------------------------------------------------------------------

ERRORS = {
    "the disk is full": (OSError(errno.ENOSPC, "No space left on device"), Exit.MACHINE),
    "the disk fails": (OSError(errno.EIO, "Input/output error"), Exit.MACHINE),
    "a refusal": (
        MachineError(
            "it does not read back",
            cause=Cause.READ_BACK_FAILED,
            have="a",
            need="b",
            remedies=(Remedy("c"),),
        ),
        Exit.MACHINE,
    ),
    "no memory": (MemoryError(), Exit.MACHINE),
    "a bug": (ZeroDivisionError("division by zero"), Exit.BUG),
    "the thread is told to end": (SystemExit(0), Exit.BUG),
    "the thread is interrupted": (KeyboardInterrupt(), Exit.BUG),
}


def fails_at(patch: pytest.MonkeyPatch, name: str, error: BaseException) -> None:
    real = checkpoint.write_model_files

    def write(model: Any, folder: Path, weights: Any) -> None:
        real(model, folder, weights)
        if name in folder.name:
            raise error

    patch.setattr(checkpoint, "write_model_files", write)


def incident(ran: Ran, code: Exit) -> None:
    """Told at once, the run ended before the next save, and what was good before stands."""
    assert ran.code == code
    (noted,) = [e for e in ran.of(Noted) if e.finding.kind == "refused"]
    assert noted.finding.what
    assert noted.finding.have
    assert noted.finding.need
    assert noted.finding.remedies
    assert [e.global_step for e in ran.of(Saved)] == [2]
    assert ran.receipt.steps.applied <= 6  # it may have been on its way up to the next save
    newest, problems = ran.folder.newest_verified()
    assert newest is not None
    assert (newest.global_step, problems) == (2, [])
    assert [c.global_step for c in ran.folder.checkpoints()] == [2]
    assert not list(ran.folder.path.glob(".checkpoint-*"))
    assert ran.receipt.outcome == "failed"
    assert ran.receipt.checkpoint is not None
    assert ran.receipt.checkpoint.name == "checkpoint-2"


@pytest.mark.parametrize("error", ERRORS)
def test_f69_a_writer_that_dies_ends_the_run_before_the_next_save(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    plan = planned(here, save_steps=2)
    with monkeypatch.context() as patch:
        fails_at(patch, "checkpoint-4", ERRORS[error][0])
        ran = run(tmp_path / "run", plan)
    incident(ran, ERRORS[error][1])
    assert (ran.folder.path / TRACEBACK).exists() == (ERRORS[error][1] == Exit.BUG)
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT


def test_f69_a_writer_whose_death_nobody_looks_for_is_noticed(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(self: Saver) -> None:
        if self._writing and self._writing.done() and not self._writing.exception():
            self.last = self._writing.result().checkpoint

    monkeypatch.setattr(Saver, "check", blind)
    fails_at(monkeypatch, "checkpoint-4", MemoryError())
    ran = run(tmp_path / "run", planned(here, save_steps=2))
    with pytest.raises(AssertionError):
        incident(ran, Exit.MACHINE)


def poisoned(event: Any, job: Any) -> None:
    """A weight becomes NaN after step 4, in a way that no loss shows."""
    if isinstance(event, StepDone) and event.step == 4:
        with torch.no_grad():
            job.trainer.setup.parameters["model.embed_tokens.weight"][200] = float("nan")


def test_c06_weights_that_are_not_finite_are_never_a_checkpoint(here: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "run", planned(here, save_steps=2), on=poisoned)
    assert ran.code != Exit.KEPT
    (noted,) = [e for e in ran.of(Noted) if e.finding.kind == "refused"]
    assert noted.finding.what == "checkpoint-4 was not written: weights are not finite"
    assert [c.global_step for c in ran.folder.checkpoints()] == [2]
    assert finite(ran)


def test_c06_without_the_check_they_would_be(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Snapshot, "_refuse_non_finite", lambda *_: None)
    ran = run(tmp_path / "run", planned(here, save_steps=2, save_total_limit=9), on=poisoned)
    assert not finite(ran)


def finite(ran: Ran) -> bool:
    files = [c.path / "model.safetensors" for c in ran.folder.checkpoints()]
    return all(bool(t.isfinite().all()) for file in files for t in load_file(file).values())


# ---- when, and which are kept ------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 3, 500])
def test_c03_s08_the_last_step_is_always_saved(here: Path, tmp_path: Path, every: int) -> None:
    """An interval longer than the job, or one that does not divide it; a run of one step."""
    for steps in (1, 7):
        plan = planned(here, save_steps=every, max_steps=steps)
        ran = run(tmp_path / f"run-{steps}", plan)
        newest, _ = ran.folder.newest_verified()
        assert newest is not None
        assert newest.state().job_step == ran.receipt.steps.applied == steps
        assert ran.receipt.checkpoint is not None
        assert ran.receipt.checkpoint.name == newest.path.name


def test_c03_a_run_that_forgets_its_last_save_does_not_finish(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Attempt, "_save", lambda *_: None)
    ran = run(tmp_path / "run", planned(here, save_steps=500))
    assert ran.code == Exit.BROKEN
    assert ran.receipt.contract.verdict == "broken"


def test_touching_a_file_saves_at_the_end_of_the_step(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Saver.is_due

    def impatient(self: Saver, job_step: int) -> bool:
        self._polled_s = 0.0  # as if a second had passed
        return real(self, job_step)

    def on(event: Any, job: Any) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            (job.folder.path / "save").touch()

    monkeypatch.setattr(Saver, "is_due", impatient)
    ran = run(tmp_path / "run", planned(here, save_steps=500), on=on)
    assert [e.global_step for e in ran.of(Saved)] == [5, 14]
    assert not (ran.folder.path / "save").exists()


def test_c07_the_best_by_held_out_loss_is_kept(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated before the save where both fall on a step, and kept in its state."""
    losses = iter([5.0, 4.0, 3.0, 1.0, 2.0, 3.0, 4.0, 5.0])  # before, steps 2 to 12, after
    measured = lambda *_, **__: Measured(next(losses), 0.1, 3)  # noqa: E731 - one line
    monkeypatch.setattr(Trainer, "measure_held_out", measured)
    given = {"save_steps": 2, "eval_steps": 2, "val_size": 3, "save_total_limit": 1}
    ran = run(tmp_path / "run", planned(here, **given))
    assert [e.held_out for e in ran.of(Evaluated)] == [4.0, 3.0, 1.0, 2.0, 3.0, 4.0]
    there = {c.global_step: c.held_out_loss() for c in ran.folder.checkpoints()}
    assert there == {6: 1.0, 13: None}
    assert ran.folder.model.resolve().name == "checkpoint-13"


def test_c07_every_so_many_are_kept_for_good(here: Path, tmp_path: Path) -> None:
    plan = planned(here, save_steps=5, keep_every=4, save_total_limit=1)
    ran = run(tmp_path / "run", plan)
    assert [e.global_step for e in ran.of(Saved)] == [4, 5, 8, 10, 12, 14]
    assert [c.global_step for c in ran.folder.checkpoints()] == [4, 8, 12, 14]
    assert plan.saves.num == 6
    assert plan.saves.most(14, evaluated=False) == 1 + 3 + 1
    assert plan.saves.most(14, evaluated=True) == 1 + 3 + 1 + 1


def test_the_memory_of_the_copy_is_in_the_plan(here: Path) -> None:
    plan = planned(here)
    memory = decided(Store(here / "text"), max_length=16).memory
    trainable = decided(Store(here / "text"), max_length=16).model.trainable
    assert memory.snapshot == 12 * trainable
    parts = (memory.process, memory.weights, memory.gradients, memory.optimizer)
    assert memory.peak == sum(parts) + memory.activations + memory.snapshot
    assert plan.memory.snapshot > 0


def test_a_run_does_not_fail_for_want_of_its_plots(here: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "losses.csv").mkdir(parents=True)
    ran = run(tmp_path / "run", planned(here, max_steps=2))
    assert ran.receipt.contract.verdict == "kept"
    assert [(n.finding.kind, "losses.csv" in n.finding.what) for n in ran.of(Noted)] == [
        ("warning", True)
    ] * 2
