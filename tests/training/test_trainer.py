"""Trainer: six frames of ours from main to backward, and no attribute set from outside."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import run
from tests.training.jobs import going_on, planned

from headway.model.forward import Forward
from headway.training import trainer, worker
from headway.training.weights.checkpoint import Snapshot


def test_six_frames_of_ours_lead_from_main_to_backward(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(here, max_steps=1)
    (tmp_path / "run").mkdir()
    plan.save(tmp_path / "run")
    stacks: list[list[str]] = []
    backward, loss = torch.Tensor.backward, Forward.loss
    computed: list[torch.Tensor] = []

    def noted(self: Forward, *given: Any) -> torch.Tensor:
        computed.append(loss(self, *given))
        return computed[-1]

    def spying(tensor: torch.Tensor, *given: Any, **options: Any) -> None:
        if any(tensor is one for one in computed):
            stacks.append(frames_of_ours())
        backward(tensor, *given, **options)

    monkeypatch.setattr(Forward, "loss", noted)
    monkeypatch.setattr(torch.Tensor, "backward", spying)
    monkeypatch.setattr(worker, "end_with_parent", lambda: None)
    monkeypatch.setattr(worker, "_import_libraries", lambda *_, **__: {})
    assert worker.main([str(tmp_path / "run")]) in (0, 4)  # one step teaches little
    assert stacks[-1] == ["_gradients", "take_step", "train_steps", "_train", "run", "main"]


def test_what_continues_a_run_is_audited_as_it_is_stored(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found is what a model that transformers loads shows."""
    first = run(tmp_path / "first", planned(here, max_steps=2))
    plan = planned(here, "chats", going_on(first.folder), max_steps=2)
    monkeypatch.setattr(trainer, "starting_model", lambda _: pytest.fail("nothing is loaded"))
    as_stored = run(tmp_path / "second", plan).receipt.learning_facts.tensors
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "reads_as_stored", lambda _: False)
    loaded = run(tmp_path / "third", plan).receipt.learning_facts.tensors
    assert as_stored == loaded
    assert as_stored is not None
    assert as_stored.saved == as_stored.changed == as_stored.trainable


def test_what_is_not_stored_bit_for_bit_is_named(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path / "first", planned(here, max_steps=2))
    plan = planned(here, "chats", going_on(first.folder), max_steps=2)
    take = Snapshot.take

    def take_another(self: Snapshot) -> None:
        take(self)
        self._weights["model.norm.weight"] += 1e-6

    monkeypatch.setattr(Snapshot, "take", take_another)
    ran = run(tmp_path / "second", plan)
    assert ran.receipt.contract.verdict == "broken"
    assert ran.receipt.learning_facts.tensors is not None
    assert ran.receipt.learning_facts.tensors.differing == ("model.norm.weight",)


def frames_of_ours() -> list[str]:
    """Functions of the package on the stack, the innermost first."""
    names: list[str] = []
    frame = sys._getframe(1)
    while frame:
        if frame.f_globals.get("__name__", "").startswith("headway."):
            names.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return names
