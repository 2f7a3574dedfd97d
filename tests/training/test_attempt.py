"""An attempt at a plan: told in the order of what happened, and stopped when it is asked."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import order_of, run, stop_after
from tests.training.jobs import KINDS, adapted, planned

from headway.base.errors import Exit, Finding, MachineError
from headway.base.events import (
    Ended,
    Evaluated,
    Noted,
    PhaseEntered,
    Probed,
    Refined,
    Sampled,
    Saved,
    StepDone,
    StopAsked,
)
from headway.base.files import Manifest, verify_folder
from headway.base.process import Left
from headway.base.pulse import Phase
from headway.data.batching.batches import Batch, make_batch
from headway.data.survey.store import Store
from headway.model.forward import Forward
from headway.runs.receipt import Losses, Measured
from headway.training import pace, trainer
from headway.training.attempt import Attempt
from headway.training.optimizer import learning_rate
from headway.training.trainer import Trainer
from headway.training.trials import speed
from headway.training.weights.checkpoint import Snapshot
from headway.training.weights.initial_weights import starting_model

# ---- the good end ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_keeps_its_contract(here: Path, tmp_path: Path, kind: str) -> None:
    plan = KINDS[kind](here)
    ran = run(tmp_path / "run", plan)
    receipt = ran.receipt
    assert ran.code == Exit.KEPT
    assert receipt.contract.verdict == "kept"
    assert receipt.outcome == "finished"
    rows = receipt.rows
    assert rows.trained == rows.planned == plan.data.rows.planned
    assert rows.applications == rows.applications_planned
    assert rows.row_sum == rows.row_sum_planned
    assert (rows.missing, rows.repeated) == (0, 0)
    assert receipt.tokens.padding == 0
    assert receipt.tokens.trained == plan.data.trained_tokens
    newest, problems = ran.folder.newest_verified()
    assert newest is not None
    assert (newest.global_step, problems) == (plan.steps.num, [])
    assert receipt.checkpoint is not None
    assert receipt.checkpoint.name == newest.path.name
    tensors = receipt.learning_facts.tensors
    assert tensors is not None
    assert tensors.changed == tensors.trainable == tensors.with_gradient


def test_it_learns(here: Path, tmp_path: Path) -> None:
    receipt = run(tmp_path / "run", planned(here, num_train_epochs=3)).receipt
    assert receipt.learning.verdict == "improved"
    facts = receipt.learning_facts
    assert facts.train_probe is not None
    assert facts.train_probe.after < facts.train_probe.before - 0.5
    assert facts.loss_first == pytest.approx(facts.train_probe.before, abs=1e-3)
    assert "55 rows 3 times each · improved: " in receipt.line


def test_events_are_in_the_order_of_what_happened(here: Path, tmp_path: Path) -> None:
    plan = planned(here, save_steps=5, val_size=3, eval_steps=4, sample_steps=6, sample_tokens=2)
    ran = run(tmp_path / "run", plan)
    told = [e for e in ran.events if not isinstance(e, PhaseEntered)]
    kinds = [type(event).__name__ for event in told]
    num = plan.steps.num
    assert num == 13
    assert kinds[0] == kinds[-3] == "Probed"
    assert kinds[-2:] == ["Sampled", "Ended"]
    assert [e.step for e in ran.of(StepDone)] == list(range(1, num + 1))
    assert [e.global_step for e in ran.of(Saved)] == [5, 10, num]
    assert [e.global_step for e in ran.of(Evaluated)] == [4, 8, 12]
    assert [e.global_step for e in ran.of(Sampled)] == [6, 12, num]
    assert [e.when for e in ran.of(Probed)] == ["before", "after"]
    # after step 3, and between the steps that they belong to
    assert kinds[kinds.index("Refined") - 1] == "StepDone"
    assert told[kinds.index("Refined") - 1] == ran.of(StepDone)[2]
    for event in (*ran.of(Evaluated), *ran.of(Sampled)[:-1]):
        before = [e for e in told[: told.index(event)] if isinstance(e, StepDone)]
        assert before[-1].global_step == event.global_step
    # saved beside the loop: not told before its step
    for event in ran.of(Saved):
        before = [e for e in told[: told.index(event)] if isinstance(e, StepDone)]
        assert before[-1].global_step >= event.global_step
    (ended,) = ran.of(Ended)
    assert (ended.outcome, ended.exit_code, ended.line) == ("finished", 0, ran.receipt.line)


def test_l07_each_step_has_the_rate_of_the_plan(here: Path, tmp_path: Path) -> None:
    plan = planned(here, warmup_steps=3)
    told = [event.learning_rate for event in run(tmp_path / "run", plan).of(StepDone)]
    num = plan.steps.num
    assert told == [learning_rate(plan.learning, step, num) for step in range(1, num + 1)]


def test_phases_are_entered_by_name_and_their_times_add_up(here: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "run", planned(here, val_size=3))
    names = [event.phase for event in ran.of(PhaseEntered)]
    assert list(dict.fromkeys(names)) == [
        "preparing",
        "loading the model",
        "checking the packing",
        "probing",
        "evaluating",
        "training",
        "saving",
        "auditing the weights",
        "writing the receipt",
    ]
    time = ran.receipt.time
    assert set(time.by_phase) <= set(names)
    assert sum(time.by_phase.values()) <= time.total + 0.05
    assert time.to_first_step is not None
    assert 0 < time.to_first_step < time.total
    assert time.watching is not None
    assert 0 < time.watching < time.total


def test_c_a_step_is_told_after_its_update(here: Path, tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []

    def on(event: Any, job: Any) -> None:
        if job.attempt and isinstance(event, StepDone | Probed):
            weights = next(iter(job.trainer.setup.parameters.values()))
            seen.append(weights.detach().clone())

    plan = planned(here)
    ran = run(tmp_path / "run", plan, on=on)
    assert len(seen) == ran.receipt.steps.applied + 1
    *steps, after = [next(starting_model(plan).parameters()).detach(), *seen]
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(steps))
    assert torch.equal(steps[-1], after)
    saved = load_file(ran.folder.model.resolve() / "model.safetensors")
    assert torch.equal(saved["model.embed_tokens.weight"], after)


def test_what_was_measured_is_remembered_for_the_next_plan(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: dict[str, float] = {}
    monkeypatch.setattr(speed, "remember", notes.__setitem__)
    ran = run(tmp_path / "run", planned(here))
    (refined,) = ran.of(Refined)
    speeds = [value for name, value in notes.items() if name.startswith("speed|")]
    assert len(speeds) == 1
    assert speeds[0] > 0
    assert refined.tokens_per_second > 0
    assert ran.receipt.plan_against_actual.seconds.foretold == refined.seconds


def test_checkpoints_are_kept_as_many_as_asked(here: Path, tmp_path: Path) -> None:
    plan = planned(here, save_steps=2, save_total_limit=3)
    ran = run(tmp_path / "run", plan)
    assert [c.global_step for c in ran.folder.checkpoints()] == [10, 12, 14]
    assert all(verify_folder(c.path) == [] for c in ran.folder.checkpoints())
    assert ran.folder.model.resolve().name == "checkpoint-14"


# ---- looking between steps ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "adapters on text"])
def test_f65_sampling_and_evaluating_leave_no_trace(here: Path, tmp_path: Path, kind: str) -> None:
    """Weights and chance are the same bits with and without, dropout and all."""
    looks = {"sample_steps": 1, "sample_tokens": 5, "eval_steps": 1, "sample_prompts": ("ab", "")}
    make = planned if kind == "text" else adapted
    states: list[torch.Tensor] = []

    def on(event: Any, _: Any) -> None:
        if isinstance(event, StepDone):
            states.append(torch.get_rng_state())

    given = {"max_steps": 5, "val_size": 3}
    looking = run(tmp_path / "looking", make(here, **given, **looks), on=on)
    plain = run(tmp_path / "plain", make(here, **given), on=on)
    assert looking.hashes() == plain.hashes()
    assert all(torch.equal(a, b) for a, b in zip(states[:5], states[5:], strict=True))
    assert len(looking.of(Sampled)) == 5 * 2
    assert len(looking.of(Evaluated)) == 4
    assert len((looking.folder.path / "samples.jsonl").read_text().splitlines()) == 10


def test_held_out_rows_are_never_trained_on(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()
    real = make_batch

    def watching(*given: Any, **options: Any) -> Batch:
        made = real(*given, **options)
        seen.update(int(n) for leaf in made.leaves for m in leaf for n in m.rows_R)
        return made

    plan = planned(here, val_size=0.05, num_train_epochs=2)
    monkeypatch.setattr(trainer, "make_batch", watching)
    ran = run(tmp_path / "run", plan)
    order = order_of(plan, Store(here / "text"))
    assert len(order.held_out()) == 3
    assert not seen & set(order.held_out().tolist())
    assert len(seen) == plan.data.rows.planned
    held_out = ran.receipt.learning_facts.held_out
    assert held_out is not None
    assert held_out.rows == 3


# ---- stopping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 75), ("SIGINT", 130)])
def test_f03_a_stop_finishes_the_step_saves_and_says_so(
    here: Path, tmp_path: Path, name: str, code: int
) -> None:
    def on(event: Any, job: Any) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            job.stop.ask(name, Exit(code))

    ran = run(tmp_path / "run", planned(here), on=on)
    assert ran.code == code
    assert ran.receipt.outcome == "interrupted"
    assert ran.receipt.contract.verdict == "kept"
    assert ran.receipt.line.startswith(f"kept so far: 5 of 14 steps, saved ({name})")
    newest, _ = ran.folder.newest_verified()
    assert newest is not None
    assert newest.state().job_step == 5
    assert not ran.folder.is_finished


def test_time_that_earlier_attempts_of_the_command_took_counts(here: Path, tmp_path: Path) -> None:
    plan = replace(planned(here), max_time_s=5000.0)
    assert run(tmp_path / "whole", plan).code == Exit.KEPT
    assert run(tmp_path / "late", plan, spent_s=5000.0).code == Exit.COME_BACK


def test_max_time_stops_with_75(here: Path, tmp_path: Path) -> None:
    plan = replace(planned(here), max_time_s=1e-6)
    ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.COME_BACK
    assert [event.by for event in ran.of(StopAsked)] == ["max_time"]
    assert ran.receipt.steps.applied == 1  # a step is always taken: it gets on
    assert "saved (max_time)" in ran.receipt.line


def test_a_step_that_would_outlast_the_grace_is_dropped(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last finished state is saved, not half a step."""
    plan, jobs = planned(here, micro_batch_tokens=16), list[Any]()
    twin = run(tmp_path / "twin", plan, on=stop_after(3))
    real = Forward.loss

    def loss(self: Forward, micro: Any, num_trained: int) -> torch.Tensor:
        if jobs and jobs[0].attempt and jobs[0].trainer.totals.job_step == 3:
            jobs[0].stop.ask("SIGTERM", Exit.COME_BACK)
            jobs[0].stop.asked_s -= 1000
        return real(self, micro, num_trained)

    monkeypatch.setattr(Forward, "loss", loss)
    ran = run(tmp_path / "run", plan, on=lambda _, job: jobs.append(job))
    assert ran.code == Exit.COME_BACK
    assert ran.receipt.steps.applied == 3
    assert ran.hashes() == twin.hashes()
    assert ran.receipt.contract.verdict == "kept"
    assert [event.when for event in ran.of(Probed)] == ["before"]  # no time to look


def test_a_stop_before_the_first_step_has_nothing_to_save(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(event: Any, job: Any) -> None:
        if isinstance(event, Probed):
            job.stop.ask("SIGTERM", Exit.COME_BACK)
            job.stop.asked_s -= 1000

    ran = run(tmp_path / "run", planned(here), on=on)
    assert ran.code == Exit.COME_BACK
    assert ran.folder.checkpoints() == []
    assert ran.receipt.line == (
        "kept so far: 0 of 14 steps, nothing to save (SIGTERM) · the same command starts it again"
    )


def test_a_stop_while_it_prepares_leaves_at_once(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is taken, and what has been done before goes on the next time."""

    def on(event: Any, job: Any) -> None:
        if event == PhaseEntered("checking the packing"):
            job.stop.ask("SIGTERM", Exit.COME_BACK)
            raise Left  # as the handler of the signal does

    plan = planned(here)
    ran = run(tmp_path / "run", plan, on=on)
    assert ran.code == Exit.COME_BACK
    (ended,) = ran.of(Ended)
    assert (ended.outcome, ended.exit_code, ended.finding) == ("interrupted", 75, None)
    assert ended.line.startswith("stopped by SIGTERM before the first step: nothing to save")
    assert ran.folder.checkpoints() == []
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT


# ---- what nobody foresaw -----------------------------------------------------------------------


def raising(
    patch: pytest.MonkeyPatch, step: int, error: Callable[[], object], *, ever_after: bool = False
) -> None:
    """In the middle of the pass that computes a step."""
    calls = itertools.count(1)
    real = Forward.loss

    def loss(self: Forward, micro: Any, num_trained: int) -> torch.Tensor:
        call = next(calls)
        if call == step or (ever_after and call > step):
            error()
        return real(self, micro, num_trained)

    patch.setattr(Forward, "loss", loss)


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


OUT_OF_MEMORY = {
    "of the device": out_of_memory,
    "of the host": lambda: torch.empty(1 << 60, dtype=torch.uint8),
    "of Python": lambda: bytearray(1 << 60),
}


@pytest.mark.parametrize("kind", OUT_OF_MEMORY)
def test_f54_memory_that_runs_out_saves_the_last_step_and_says_what_would_fit(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    plan = planned(here, micro_batch_tokens=64, exact=True)
    twin = run(tmp_path / "twin", plan)
    with monkeypatch.context() as patch:
        raising(patch, 6, OUT_OF_MEMORY[kind], ever_after=True)
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.MACHINE
    (ended,) = ran.of(Ended)
    assert ended.finding is not None
    assert ended.finding.what == "out of memory while training"
    assert ended.finding.have
    assert ended.finding.need == "micro-batches of fewer than 64 tokens"
    assert ended.finding.remedies[0].do == "--micro-batch-tokens 32"
    newest, _ = ran.folder.newest_verified()
    assert newest is not None
    assert newest.state().job_step == 5
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT
    assert ran.hashes() == twin.hashes()


def test_a_bug_saves_the_last_step_and_keeps_its_traceback(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(here)
    twin = run(tmp_path / "twin", plan)
    with monkeypatch.context() as patch:
        raising(patch, 6, lambda: 1 // 0)
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.BUG
    (ended,) = ran.of(Ended)
    assert ended.finding is not None
    assert ended.finding.what.startswith("training failed: ZeroDivisionError: ")
    assert "ZeroDivisionError" in (tmp_path / "run" / "traceback.txt").read_text()
    assert [c.global_step for c in ran.folder.checkpoints()] == [5]
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT
    assert ran.hashes() == twin.hashes()


def half_an_update(patch: pytest.MonkeyPatch, step: int) -> None:
    calls, real = itertools.count(1), torch.optim.AdamW.step

    def half(self: Any) -> None:
        if next(calls) == step:
            self.param_groups[0]["params"][0].data.mul_(2)
            out_of_memory()
        real(self)

    patch.setattr(torch.optim.AdamW, "step", half)


@pytest.mark.parametrize("looks", [True, False])
def test_half_an_update_is_not_saved(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """And whoever does not look whether the weights are whole saves it.

    The save before it may still be on its way, on a slow disk; it is not left behind.
    """
    plan = planned(here, save_steps=4, exact=True)
    twin = run(tmp_path / "twin", plan)
    with monkeypatch.context() as patch:
        half_an_update(patch, 6)
        write = Snapshot.write

        def slowly(*arguments: Any) -> None:
            time.sleep(0.5)
            write(*arguments)

        patch.setattr(Snapshot, "write", slowly)
        if not looks:
            patch.setattr(Trainer, "weights_are_counted", True)
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.MACHINE
    assert ([c.global_step for c in ran.folder.checkpoints()] == [4]) == looks
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT
    assert (ran.hashes() == twin.hashes()) == looks


def test_an_error_while_it_prepares_has_four_parts_too(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def on(event: Any, _: Any) -> None:
        if event == PhaseEntered("probing"):
            out_of_memory()

    with pytest.raises(MachineError, match="out of memory while preparing"):
        run(tmp_path / "run", planned(here), on=on)


def test_an_error_after_the_last_save_loses_no_step(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(here)
    with monkeypatch.context() as patch:
        patch.setattr(Attempt, "_audit", lambda _: out_of_memory())
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.MACHINE
    assert ran.receipt.outcome == "failed"
    assert ran.receipt.steps.applied == ran.receipt.steps.planned
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT


def test_a_run_without_a_plan_is_refused(here: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text("{}")
    with pytest.raises(MachineError, match=r"plan\.json cannot be read"):
        run(tmp_path / "run", planned(here))


def test_each_step_and_what_lies_between_is_watched_for_a_slower_pace(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluations and saves are in neither: they have phases of their own."""
    fed: list[tuple[str, float]] = []

    def add(self: pace.Pace, took_s: float) -> Finding | None:
        fed.append((self._what, took_s))
        return Finding("warning", "slower") if len(fed) == 6 else None

    monkeypatch.setattr(pace.Pace, "add", add)
    measure = Trainer.measure_held_out

    def slow(trainer: Trainer, *given: Any, **more: Any) -> Measured | None:
        with trainer._phase(Phase.EVALUATING):
            time.sleep(0.2)
            return measure(trainer, *given, **more)

    monkeypatch.setattr(Trainer, "measure_held_out", slow)
    ran = run(tmp_path / "run", planned(here, max_steps=4, eval_steps=1, val_size=4))
    steps = [e.seconds for e in ran.events if isinstance(e, StepDone)]
    assert [took_s for what, took_s in fed if what == "a step takes"] == steps
    between = [took_s for what, took_s in fed if what != "a step takes"]
    assert len(between) == 4
    assert all(took_s >= 0 for took_s in between[1:])
    assert sum(between[1:]) + sum(steps) <= ran.receipt.time.by_phase["training"] + 1e-3
    assert [e.finding.what for e in ran.events if isinstance(e, Noted)][-1] == "slower"


def test_the_losses_after_are_measured_while_the_last_save_is_written(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are logged after it, so its history of losses is the same however long it took."""
    measured = threading.Event()
    measure, write = Trainer.measure, Snapshot.write

    def noted(trainer: Trainer, *given: Any) -> Losses:
        found = measure(trainer, *given)
        if trainer.totals.job_step:
            measured.set()
        return found

    def late(snapshot: Snapshot, *given: Any) -> Manifest:
        assert measured.wait(60), "the losses after wait for the save"
        return write(snapshot, *given)

    monkeypatch.setattr(Trainer, "measure", noted)
    monkeypatch.setattr(Snapshot, "write", late)
    ran = run(tmp_path / "run", planned(here, max_steps=2, val_size=4))
    assert ran.receipt.outcome == "finished"
    kinds = [type(event) for event in ran.events if isinstance(event, Saved | Probed)]
    assert kinds == [Probed, Saved, Probed]
    last = ran.folder.checkpoints()[-1].path
    history = json.loads((last / "trainer_state.json").read_text())["log_history"]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2]
    assert [entry["step"] for entry in history if "eval_loss" in entry] == [0]
