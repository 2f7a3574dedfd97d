"""Weights that stood still beside moments that moved; and training that looks almost like it."""

from pathlib import Path

import pytest
import torch
from tests.guard.judge.left import archive
from torch import nn

from headway.base.foreign.tensors import Comparison, read_tensors
from headway.guard.judge.traces.moments import compare_without_moments

MIB = 1 << 20


def saved(path: Path, rate: float, frozen: int, optimizer: str, kinds: str) -> tuple[Path, Path]:
    """Two checkpoints of a small network, saved as training scripts and Lightning do."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))
    for layer in range(frozen):
        model[layer].requires_grad_(False)
    trained = [one for one in model.parameters() if one.requires_grad]
    stepper = getattr(torch.optim, optimizer)(trained, lr=rate)
    for number in range(2):
        for _ in range(2):
            model(torch.randn(4, 8)).square().mean().backward()
            stepper.step()
        states = {"model": model.state_dict(), "optimizer": stepper.state_dict()}
        torch.save({kind: states[kind] for kind in kinds.split()}, path / f"{number}.pt")
    return path / "0.pt", path / "1.pt"


@pytest.mark.parametrize("frozen", [0, 2, 3])
@pytest.mark.parametrize("optimizer", ["AdamW", "Adam", "SGD", "RMSprop"])
@pytest.mark.parametrize("kinds", ["model optimizer", "model"])
def test_training_moves_weights_however_much_is_frozen(
    tmp_path: Path, optimizer: str, frozen: int, kinds: str
) -> None:
    first, last = saved(tmp_path, 0.1, frozen, optimizer, kinds)
    assert compare_without_moments(read_tensors(first), read_tensors(last), MIB).differs


@pytest.mark.parametrize("frozen", [0, 2, 3])
def test_a_rate_of_zero_moves_moments_alone(tmp_path: Path, frozen: int) -> None:
    first, last = saved(tmp_path, 0.0, frozen, "AdamW", "model optimizer")
    found = compare_without_moments(read_tensors(first), read_tensors(last), MIB)
    assert found == Comparison(8, differs=False)


def test_what_cannot_be_compared_proves_nothing(tmp_path: Path) -> None:
    first = read_tensors(archive(tmp_path / "a.pt", b"1" * 100, b"2" * 100))
    other = read_tensors(archive(tmp_path / "b.pt", b"1" * 100, b"2" * 99))
    assert compare_without_moments(first, other, MIB).differs is None
    assert compare_without_moments(first, first, 150).differs is None
