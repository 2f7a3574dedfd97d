"""A run that does not do what was planned, or does not learn, never looks as if it had."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import run
from tests.training.jobs import planned

from headway.base.errors import Cause, Exit, MachineError
from headway.base.events import Ended
from headway.data.batching.batches import Batch
from headway.data.order import StoreOrder
from headway.model.forward import Forward
from headway.training import setup, trainer
from headway.training.step import Stepper
from headway.training.weights import checkpoint


def test_f30_s02_a_nan_in_the_middle_ends_it_with_what_was_finished(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(here)
    with monkeypatch.context() as patch:
        poison(patch, step=6)
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.BROKEN
    receipt = ran.receipt
    assert (receipt.outcome, receipt.contract.verdict) == ("failed", "broken")
    assert receipt.contract.reasons[0].startswith("the loss of step 6 is not finite")
    assert receipt.learning_facts.nonfinite_steps == 1
    newest, _ = ran.folder.newest_verified()
    assert newest is not None
    assert newest.state().job_step == 5
    assert all(t.isfinite().all() for t in load_file(newest.path / "model.safetensors").values())
    (ended,) = ran.of(Ended)
    assert ended.finding is not None
    assert ended.finding.remedies

    twin = run(tmp_path / "twin", plan)
    again = run(tmp_path / "run", plan, attempt=2)
    assert again.code == Exit.KEPT
    assert again.hashes() == twin.hashes()


def poison(patch: pytest.MonkeyPatch, step: int) -> None:
    """Make the loss of a step NaN."""
    real, loss = Stepper.take_step, Forward.loss

    def call(self: Stepper, batch: Batch, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as now:
            if batch.step == step:
                now.setattr(Forward, "loss", lambda *given: loss(*given) * float("nan"))
            return real(self, batch, **options)

    patch.setattr(Stepper, "take_step", call)


def test_f29_a_rate_of_0_breaks_the_contract(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "learning_rate", lambda *_, **__: 0.0)
    ran = run(tmp_path / "run", planned(here))
    assert ran.code == Exit.BROKEN
    (reason,) = ran.receipt.contract.reasons
    assert "trainable tensors had a gradient but did not change" in reason


def test_c_an_update_that_is_not_applied_breaks_the_contract(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    ran = run(tmp_path / "run", planned(here))
    assert ran.code != Exit.KEPT
    assert ran.receipt.contract.verdict == "broken"


def test_l04_an_optimizer_over_other_tensors_breaks_the_contract(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made before the model was wrapped: it updates tensors that nobody runs."""
    real = setup.make_optimizer

    def of_others(parameters: dict[str, torch.nn.Parameter], *others_of: Any) -> Any:
        others = {name: torch.nn.Parameter(p.detach().clone()) for name, p in parameters.items()}
        return real(others, *others_of)

    monkeypatch.setattr(setup, "make_optimizer", of_others)
    ran = run(tmp_path / "run", planned(here))
    assert ran.code == Exit.BROKEN
    assert "of 20 trainable tensors had a gradient but did not change" in ran.receipt.line


def test_l03_one_tensor_that_stands_still_breaks_the_contract(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper._apply

    def apply(self: Stepper, batch: Batch, gradients: Any, norm: float) -> None:
        norm_weight = self.parameters["model.norm.weight"]
        before = norm_weight.detach().clone()
        real(self, batch, gradients, norm)
        norm_weight.data.copy_(before)

    monkeypatch.setattr(Stepper, "_apply", apply)
    ran = run(tmp_path / "run", planned(here))
    assert ran.code == Exit.BROKEN
    assert "1 of 20 trainable tensors" in ran.receipt.line
    assert "such as model.norm.weight" in ran.receipt.line


LEDGER_MISTAKES = {
    "a row is left out": lambda numbers: numbers[1:],
    "a row comes twice": lambda numbers: np.append(numbers[1:], numbers[1]),
    "a row of another step": lambda numbers: np.append(numbers[1:], (numbers[0] + 1) % 54),
}


@pytest.mark.parametrize("mistake", LEDGER_MISTAKES)
def test_d04_rows_that_were_not_trained_as_planned_break_the_contract(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    """A loader that makes one wrong batch, once the plan is made."""
    plan, real = planned(here), StoreOrder.rows

    def rows(self: StoreOrder, step: int) -> Any:
        epoch, numbers = real(self, step)
        return epoch, LEDGER_MISTAKES[mistake](numbers) if step == 7 else numbers

    monkeypatch.setattr(StoreOrder, "rows", rows)
    ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.BROKEN
    assert "the ledger does not add up" in ran.receipt.contract.reasons[0]


def test_d15_a_loader_that_ends_early_is_not_a_finished_run(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trainer.prefetch

    def short(make: Any, first: int, last: int, pulse: Any, **options: Any) -> Iterator[Batch]:
        return real(make, first, last - 3, pulse, **options)

    monkeypatch.setattr(trainer, "prefetch", short)
    ran = run(tmp_path / "run", planned(here))
    assert ran.code != Exit.KEPT
    assert not ran.folder.is_finished
    assert ran.receipt.contract.verdict == "broken"


def test_a_run_that_gets_worse_ends_with_4(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Stepper._apply

    def uphill(self: Stepper, batch: Batch, gradients: Any, norm: float) -> None:
        real(self, batch, [None if g is None else -g for g in gradients], norm)

    monkeypatch.setattr(Stepper, "_apply", uphill)
    ran = run(tmp_path / "run", planned(here))
    assert ran.receipt.contract.verdict == "kept"
    assert ran.receipt.learning.verdict == "not"
    assert ran.code == Exit.BROKEN


def test_f35_a_disk_that_fills_up_ends_it_and_the_older_checkpoint_stands(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = checkpoint.write_folder, itertools.count()

    def full(*given: Any) -> Any:
        if next(calls):
            raise MachineError(
                "the disk is full: checkpoint-8 was not written", cause=Cause.DISK_FULL
            )
        return real(*given)

    plan = planned(here, save_steps=4)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_folder", full)
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.MACHINE
    assert ran.receipt.outcome == "failed"
    newest, problems = ran.folder.newest_verified()
    assert newest is not None
    assert (newest.global_step, problems) == (4, [])
    assert run(tmp_path / "run", plan, attempt=2).code == Exit.KEPT
