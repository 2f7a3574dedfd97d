"""Stopped and started again, a run ends with the same bits as one that was not."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.helpers import (
    TINY,
    Ran,
    causal,
    chat_store,
    chats,
    folder_start,
    plan_of,
    run,
    save_model,
    stop_after,
    text_store,
)
from tests.training.jobs import going_on

from headway.base.errors import Exit, MachineError, UsageError
from headway.base.events import Event, Noted, PhaseEntered, Probed, Resumed, StepDone
from headway.base.pulse import Pulse
from headway.data.batching.batches import Batch, make_batch
from headway.data.survey.store import Store
from headway.model.forward import Forward
from headway.model.load import from_folder
from headway.planning.model_source import InitialModel
from headway.runs import checkpoint_state
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import Checkpoint
from headway.runs.plan import Plan
from headway.runs.settled import Settled
from headway.training import setup, trainer
from headway.training.distributed.messages import EvaluatedRows
from headway.training.evaluation.evaluate import measure_loss
from headway.training.optimizer import learning_rate
from headway.training.step import Stepper
from headway.training.weights import holding

GIVEN = {
    "max_length": 16,
    "batch_size": 4,
    "max_steps": 9,  # of 7 an epoch: the second one is begun
    "val_size": 2,
    "warmup_steps": 2,
    "learning_rate": 5e-3,
}
DROPOUT = {"lora_r": 2, "lora_dropout": 0.3}


class Killed(BaseException):
    """What a test raises in place of `kill -9`: nobody catches it."""


def killed_at(step: int) -> Callable[[Event, Any], None]:
    """A thread that saves dies with the process: here it is let finish first."""

    def on(event: Event, job: Any) -> None:
        if isinstance(event, StepDone) and event.global_step == step:
            job.attempt.saver.finish()
            raise Killed

    return on


def killed_writing_the_receipt(event: Event, _: Any) -> None:
    if event == PhaseEntered("writing the receipt"):
        raise Killed


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    text_store(folder / "text", 300, 40, 1, 2, 120)
    chat_store(folder / "conversations", *chats(30))
    save_model(folder / "base")
    causal("gpt2", scale=1.0).save_pretrained(folder / "gpt2")
    mixtral = {"num_local_experts": 2, "num_experts_per_tok": 1}
    causal("mixtral", scale=1.0, **mixtral).save_pretrained(folder / "mixtral")
    return folder


def planned(data: Path, kind: str, start: InitialModel = TINY, **given: Any) -> Plan:
    return plan_of(Store(data / kind), start, **GIVEN | given)


KINDS: dict[str, Callable[[Path], Plan]] = {
    "text": lambda data: planned(data, "text"),
    "conversations": lambda data: planned(data, "conversations"),
    "adapters on text": lambda data: planned(data, "text", folder_start(data / "base"), **DROPOUT),
    "adapters on conversations": lambda data: planned(
        data, "conversations", folder_start(data / "base"), **DROPOUT
    ),
    # dropout in the model itself, and weights that are stored under other names than they have
    "gpt2": lambda data: planned(data, "text", folder_start(data / "gpt2")),
    "muon": lambda data: planned(data, "text", optim="muon"),
    "mixtral": lambda data: planned(data, "text", folder_start(data / "mixtral")),
    "moments in 8 bits": lambda data: planned(data, "text", optim="adamw_8bit"),
    "adapters in 4 bits": lambda data: planned(
        data, "text", folder_start(data / "base"), load_in_4bit=True, bf16=True, **DROPOUT
    ),
}


@pytest.fixture(scope="module")
def twins(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Of each kind, the run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("twins")
    return {kind: run(folder / kind, make(data)) for kind, make in KINDS.items()}


def assert_twins(ran: Ran, twin: Ran) -> None:
    """The same bits of weights and moments, the same sums, the same losses told."""
    assert ran.code == twin.code == Exit.KEPT
    assert ran.hashes() == twin.hashes()
    one, other = ran.receipt, twin.receipt
    assert one.rows == other.rows
    assert one.tokens == other.tokens
    assert one.steps == other.steps
    assert one.learning_facts == other.learning_facts
    assert one.contract == other.contract
    assert one.line == other.line
    assert [replace(s, seconds=0.0) for s in ran.of(StepDone)] == [
        replace(s, seconds=0.0) for s in twin.of(StepDone)
    ]
    newest, _ = ran.folder.newest_verified()
    assert newest is not None
    assert newest.state().optimizer_steps == newest.state().job_step == 9
    assert_same_history(ran, twin)


def assert_same_history(ran: Ran, twin: Ran) -> None:
    """What other programs plot: each step once, whatever happened on the way."""
    csvs = [(one.folder.path / "losses.csv").read_text() for one in (ran, twin)]
    assert csvs[0] == csvs[1]
    rows = [dict(row) for row in csv.DictReader(csvs[0].splitlines())]
    assert [int(row["step"]) for row in rows if row["loss"]] == list(range(1, 10))
    states = [one.folder.model / "trainer_state.json" for one in (ran, twin)]
    logs = [json.loads(state.read_text())["log_history"] for state in states]
    assert logs[0] == logs[1]
    assert [entry["step"] for entry in logs[0] if "loss" in entry] == list(range(1, 10))


@pytest.mark.parametrize(
    ("kind", "step"),
    [("text", 1), ("text", 8), ("conversations", 7), *((kind, 6) for kind in list(KINDS)[2:])],
)
def test_f03_stopped_and_resumed_is_as_if_never_stopped(
    data: Path, tmp_path: Path, twins: dict[str, Ran], kind: str, step: int
) -> None:
    first = run(tmp_path / "run", KINDS[kind](data), on=stop_after(step))
    assert first.code == Exit.COME_BACK
    assert first.receipt.rows.row_sum == first.receipt.rows.row_sum_planned
    ran = run(tmp_path / "run", KINDS[kind](data), attempt=2)
    assert [e.when for e in ran.of(Probed)] == ["before", "after", "after"]  # measured once
    assert_twins(ran, twins[kind])


def test_stopped_after_every_step(data: Path, tmp_path: Path, twins: dict[str, Ran]) -> None:
    plan = KINDS["adapters on conversations"](data)
    for step in range(1, 9):
        assert run(tmp_path, plan, attempt=step, on=stop_after(step)).code == Exit.COME_BACK
    ran = run(tmp_path, plan, attempt=9)
    assert ran.receipt.attempts == 9
    assert_twins(ran, twins["adapters on conversations"])


LATE = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def late_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """One tensor gets its first gradient at step 3, as an expert that nothing is routed to."""
    real = Stepper._gradients

    def without(self: Stepper, batch: Batch, drop_if_due: Any) -> Any:
        share = real(self, batch, drop_if_due)
        for gradients in share.sums.values():
            pairs = zip(self.parameters, gradients, strict=True)
            gradients[:] = [None if n == LATE and batch.step < 3 else g for n, g in pairs]
        return share

    monkeypatch.setattr(Stepper, "_gradients", without)


@pytest.mark.usefixtures("late_gradient")
@pytest.mark.parametrize("step", [2, 3, 6])
def test_r05_a_tensor_whose_first_gradient_came_late_goes_on_with_its_own_count(
    data: Path, tmp_path: Path, step: int
) -> None:
    plan = KINDS["text"](data)
    twin = run(tmp_path / "twin", plan)
    run(tmp_path / "run", plan, on=stop_after(step))
    assert_twins(run(tmp_path / "run", plan, attempt=2), twin)


@pytest.mark.usefixtures("late_gradient")
def test_r05_a_count_that_is_not_its_own_is_noticed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, real = KINDS["text"](data), setup.restore_moments
    twin = run(tmp_path / "twin", plan)
    run(tmp_path / "run", plan, on=stop_after(6))

    def common(optimizer: Any, parameters: Any, saved: Any, num: int) -> int:
        kept = {n: t for n, t in saved.items() if not n.startswith("step/")}
        return real(optimizer, parameters, kept, num)

    monkeypatch.setattr(setup, "restore_moments", common)
    ran = run(tmp_path / "run", plan, attempt=2)
    with pytest.raises(AssertionError):
        assert_twins(ran, twin)


@pytest.mark.parametrize(
    ("kind", "step"), [("text", 1), ("text", 5), ("adapters on conversations", 8)]
)
def test_f01_killed_between_saves_takes_the_steps_again(
    data: Path, tmp_path: Path, twins: dict[str, Ran], kind: str, step: int
) -> None:
    plan = KINDS[kind](data)
    plan = replace(plan, saves=replace(plan.saves, every_steps=2))
    with pytest.raises(Killed):
        run(tmp_path / "run", plan, on=killed_at(step))
    assert not (tmp_path / "run" / "receipt.json").exists()
    ran = run(tmp_path / "run", plan, attempt=2)
    assert [e.step for e in ran.of(StepDone)][-9 + (step - 1) // 2 * 2 :] == list(
        range((step - 1) // 2 * 2 + 1, 10)
    )
    assert ran.hashes() == twins[kind].hashes()
    assert ran.receipt.rows == twins[kind].receipt.rows
    assert ran.receipt.learning_facts == twins[kind].receipt.learning_facts
    assert_same_history(ran, twins[kind])


def test_f34_killed_after_the_last_save_there_is_nothing_left_to_train(
    data: Path, tmp_path: Path, twins: dict[str, Ran]
) -> None:
    plan = KINDS["text"](data)
    with pytest.raises(Killed):
        run(tmp_path / "run", plan, on=killed_writing_the_receipt)
    ran = run(tmp_path / "run", plan, attempt=2)
    assert [e.step for e in ran.of(StepDone)] == list(range(1, 10))
    assert_twins(ran, twins["text"])


# ---- a resume is a seek ------------------------------------------------------------------------


def batches_made(patch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """Each batch that is made from now on, as its step and its rows."""
    made: list[tuple[int, list[int]]] = []

    def watching(*given: Any, **options: Any) -> Any:
        batch = make_batch(*given, **options)
        rows = [int(n) for leaf in batch.leaves for micro in leaf for n in micro.rows_R]
        made.append((batch.step, rows))
        return batch

    patch.setattr(trainer, "make_batch", watching)
    return made


@pytest.mark.parametrize("step", [3, 7, 8])
def test_r03_r04_r08_the_order_goes_on_and_no_row_before_it_is_read_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """In the first epoch, at its end (7 steps) and in the second."""
    made = batches_made(monkeypatch)
    plan = KINDS["text"](data)
    run(tmp_path / "twin", plan)
    whole = made.copy()
    run(tmp_path / "run", plan, on=stop_after(step))
    made.clear()
    run(tmp_path / "run", plan, attempt=2)
    assert made == whole[step:]
    epoch = [row for _, rows in whole[:7] for row in rows]
    assert len(set(epoch)) == len(epoch) == plan.data.rows.planned


def test_r03_a_resume_that_reads_from_the_beginning_is_noticed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, real = KINDS["text"](data), trainer.prefetch
    run(tmp_path / "run", plan, on=stop_after(6))
    made = batches_made(monkeypatch)

    def skipping(make: Any, first: int, last: int, pulse: Pulse, **options: Any) -> Any:
        return (b for b in real(make, 1, last, pulse, **options) if b.step >= first)

    monkeypatch.setattr(trainer, "prefetch", skipping)
    run(tmp_path / "run", plan, attempt=2)
    assert [step for step, _ in made] != [7, 8, 9]


def test_r06_the_learning_rate_goes_on(data: Path, tmp_path: Path) -> None:
    plan = KINDS["text"](data)
    run(tmp_path / "run", plan, on=stop_after(5))
    told = [e.learning_rate for e in run(tmp_path / "run", plan, attempt=2).of(StepDone)]
    assert told == [learning_rate(plan.learning, step, 9) for step in range(1, 10)]


def test_r01_a_job_that_goes_on_from_another_has_steps_of_its_own(
    data: Path, tmp_path: Path
) -> None:
    """Its target is counted from where it begins, so that it never lies behind."""
    first = run(tmp_path / "first", KINDS["text"](data))
    plan = planned(data, "conversations", going_on(first.folder), max_steps=3)
    assert (plan.steps.first, plan.steps.num) == (9, 3)
    second = run(tmp_path / "second", plan)
    assert [e.global_step for e in second.of(StepDone)] == [10, 11, 12]
    assert second.receipt.steps.applied == 3
    with pytest.raises(UsageError):
        planned(data, "conversations", going_on(first.folder), max_steps=0)


def test_r07_checkpoints_that_are_gone_do_not_become_a_start_from_nothing(
    data: Path, tmp_path: Path
) -> None:
    _, plan = saved(data, tmp_path / "run")
    for step in (4, 6):
        shutil.rmtree(tmp_path / "run" / f"checkpoint-{step}")
    with pytest.raises(MachineError, match="no checkpoint of run verifies") as refused:
        run(tmp_path / "run", plan, attempt=2)
    assert [remedy.do for remedy in refused.value.remedies] == ["--fresh"]


# ---- a checkpoint that cannot be trusted -------------------------------------------------------


def saved(data: Path, folder: Path) -> tuple[Ran, Plan]:
    """A run stopped at step 6, with checkpoints of 4 and 6."""
    plan = KINDS["text"](data)
    plan = replace(plan, saves=replace(plan.saves, every_steps=2))
    ran = run(folder, plan, on=stop_after(6))
    assert [c.global_step for c in ran.folder.checkpoints()] == [4, 6]
    return ran, plan


HARM: dict[str, Callable[[Path], object]] = {
    "F40 a flipped bit": lambda path: flip(path / "model.safetensors"),
    "F40 a flipped bit of the moments": lambda path: flip(path / "optimizer.safetensors"),
    "F41 cut short": lambda path: os.truncate(path / "model.safetensors", 100),
    "F42 a missing file": lambda path: (path / "headway.json").unlink(),
    "F42 without its manifest": lambda path: (path / "manifest.json").unlink(),
}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("harm", HARM)
def test_r05_a_checkpoint_that_does_not_verify_is_passed_over(
    data: Path, tmp_path: Path, twins: dict[str, Ran], harm: str
) -> None:
    _, plan = saved(data, tmp_path / "run")
    HARM[harm](tmp_path / "run" / "checkpoint-6")
    ran = run(tmp_path / "run", plan, attempt=2)
    (noted,) = ran.of(Noted)
    assert noted.finding.kind == "warning"
    assert noted.finding.what.startswith("checkpoint-6: ")
    assert noted.finding.what.endswith(
        ": moved to quarantine/checkpoint-6, resuming from checkpoint-4"
    )
    assert (tmp_path / "run" / "quarantine" / "checkpoint-6").is_dir()
    assert ran.of(Resumed) == [Resumed("checkpoint-4", 4)]
    # readers of the log see each step once, those that were lost taken again
    assert [e.step for e in ran.of(StepDone)] == list(range(1, 10))
    assert ran.hashes() == twins["text"].hashes()
    assert ran.receipt.rows == twins["text"].receipt.rows


def test_r05_when_none_verifies_it_does_not_start_over_by_itself(
    data: Path, tmp_path: Path
) -> None:
    _, plan = saved(data, tmp_path / "run")
    for step in (4, 6):
        flip(tmp_path / "run" / f"checkpoint-{step}" / "model.safetensors")
    for attempt in (2, 3):  # nor the second time: nothing was moved out of sight
        with pytest.raises(MachineError, match="no checkpoint of run verifies"):
            run(tmp_path / "run", plan, attempt=attempt)


def test_a_checkpoint_of_another_plan_is_refused(data: Path, tmp_path: Path) -> None:
    _, plan = saved(data, tmp_path / "run")
    other = replace(plan, identity="another")
    other.save(tmp_path / "run")
    Settled.from_plan(other).save(tmp_path / "run")
    with pytest.raises(MachineError, match="checkpoint-6 belongs to another plan"):
        run(tmp_path / "run", plan, attempt=2)


def test_r05_a_checkpoint_without_moments_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plan = saved(data, tmp_path / "run")
    monkeypatch.setattr(holding, "load_moments", lambda _: {})
    with pytest.raises(MachineError, match="checkpoint-6 lacks optimizer moments"):
        run(tmp_path / "run", plan, attempt=2)


def test_what_a_killed_save_left_is_swept_away(data: Path, tmp_path: Path) -> None:
    _, plan = saved(data, tmp_path / "run")
    (tmp_path / "run" / ".checkpoint-8.abc").mkdir()
    run(tmp_path / "run", plan, attempt=2)
    assert not list((tmp_path / "run").glob(".checkpoint-*"))


# ---- the tests above can fail ------------------------------------------------------------------

MUTANTS: dict[str, Callable[[CheckpointState], CheckpointState]] = {
    "a step is forgotten": lambda state: replace(
        state, job_step=state.job_step - 1, optimizer_steps=state.optimizer_steps - 1
    ),
    "the age of the moments is forgotten": lambda state: replace(state, optimizer_steps=1),
    "rows are counted anew": lambda state: replace(state, row_sum=0, applications=0),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_resume_that_forgets_is_noticed(
    data: Path, tmp_path: Path, twins: dict[str, Ran], monkeypatch: pytest.MonkeyPatch, mutant: str
) -> None:
    plan, real = KINDS["text"](data), Checkpoint.state
    run(tmp_path / "run", plan, on=stop_after(6))
    monkeypatch.setattr(Checkpoint, "state", lambda self: MUTANTS[mutant](real(self)))
    ran = run(tmp_path / "run", plan, attempt=2)
    monkeypatch.undo()
    with pytest.raises(AssertionError):
        assert_twins(ran, twins["text"])


def test_a_resume_with_fresh_moments_is_noticed(
    data: Path, tmp_path: Path, twins: dict[str, Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, real = KINDS["text"](data), setup.restore_moments

    def fresh(optimizer: Any, parameters: Any, saved: Any, num: int) -> int:
        return real(optimizer, parameters, {n: t * 0 for n, t in saved.items()}, num)

    run(tmp_path / "run", plan, on=stop_after(6))
    monkeypatch.setattr(setup, "restore_moments", fresh)
    ran = run(tmp_path / "run", plan, attempt=2)
    with pytest.raises(AssertionError):
        assert_twins(ran, twins["text"])


# ---- the state that is kept --------------------------------------------------------------------


def test_the_state_says_where_the_run_stands(data: Path, tmp_path: Path) -> None:
    ran, plan = saved(data, tmp_path / "run")
    newest, _ = ran.folder.newest_verified()
    assert newest is not None
    state = newest.state()
    assert state.schema == checkpoint_state.SCHEMA
    assert (state.global_step, state.job_step, state.optimizer_steps) == (6, 6, 6)
    assert (state.epoch, state.step_in_epoch) == (6 / 7, 6)
    assert (state.plan, state.data) == (plan.identity, plan.data.fingerprint)
    assert state.no_gradient_yet == ()
    assert state.row_sum == ran.receipt.rows.row_sum
    assert state.probe_before.rows == 4
    assert state.held_out_before is not None
    assert state.versions.keys() == {"headway", "python", "torch", "transformers"}


def test_the_state_counts_steps_within_the_epoch(twins: dict[str, Ran]) -> None:
    newest, _ = twins["text"].folder.newest_verified()
    assert newest is not None
    assert (newest.state().epoch, newest.state().step_in_epoch) == (9 / 7, 2)


def test_x03_a_checkpoint_is_the_model_that_was_trained(
    data: Path, tmp_path: Path, twins: dict[str, Ran]
) -> None:
    """Loaded afresh it has the loss that the run measured last."""
    ran = twins["text"]
    forward = Forward(from_folder(ran.folder.model.resolve(), trust_remote_code=False))
    found = measure_loss(forward, ran.job.trainer.probes.batches(EvaluatedRows.PROBE), Pulse())
    facts = ran.receipt.learning_facts
    assert facts.train_probe is not None
    assert found.mean == pytest.approx(facts.train_probe.after, abs=1e-6)
