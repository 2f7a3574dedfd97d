"""Trainer: six frames of ours from main to backward, and no attribute set from outside."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.jobs import planned

from headway.model.forward import Forward
from headway.training import worker


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


def frames_of_ours() -> list[str]:
    """Functions of the package on the stack, the innermost first."""
    names: list[str] = []
    frame = sys._getframe(1)
    while frame:
        if frame.f_globals.get("__name__", "").startswith("headway."):
            names.append(frame.f_code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return names
