"""What a GPU has to get right, tried on the CPU where there is none."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from headway.model.kernels.reproducible import set_up_kernels


@pytest.fixture(scope="session")
def device() -> str:
    """The GPU, or the CPU where there is none."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def gpu(device: str) -> str:
    """For what only a GPU can get wrong."""
    if device == "cpu":
        pytest.skip("needs a GPU")
    return device


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Kernels that add in the same order each time."""
    set_up_kernels(torch.get_num_threads(), "cuda", deterministic=True)
    yield
    torch.use_deterministic_algorithms(False)


def on(micro: Any, device: str) -> Any:
    """A micro-batch on a device."""
    names = ("ids_N", "positions_N", "trained_at_M", "targets_M")
    return replace(micro, **{name: getattr(micro, name).to(device) for name in names})
