"""Deterministic kernels are asked for where there are others, and before cuBLAS is used."""

import os
from collections.abc import Iterator

import pytest
import torch

from headway.model.kernels.reproducible import set_up_kernels

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("device", "deterministic", "expected"),
    [
        ("cpu", False, (False, None)),
        ("cpu", True, (False, None)),  # it has no others, and checks would cost time
        ("cuda", False, (False, None)),
        ("cuda", True, (True, ":4096:8")),
    ],
)
def test_kernels_are_chosen_by_device(
    device: str, deterministic: bool, expected: tuple[bool, str | None]
) -> None:
    set_up_kernels(1, device, deterministic=deterministic)
    assert torch.get_num_threads() == 1
    found = torch.are_deterministic_algorithms_enabled(), os.environ.get(VARIABLE)
    assert found == expected


def test_buffers_that_somebody_chose_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, ":16:8")
    set_up_kernels(1, "cuda", deterministic=True)
    assert os.environ[VARIABLE] == ":16:8"
