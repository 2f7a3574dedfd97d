"""Deterministic kernels are asked for where there are others; what has none is named."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from tests.helpers import causal, micro_of
from torch import Tensor, nn

from headway.base.errors import Cause, UsageError
from headway.model.forward import Forward
from headway.model.kernels.reproducible import named_if_it_fails, set_up_kernels

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


def put(hidden: Tensor) -> Tensor:
    """An operation that has no deterministic kernel, on a CPU either, and changes nothing."""
    at = torch.zeros(1, dtype=torch.long)
    return hidden.put(at, hidden.flatten()[:1])


class PutsBack(torch.autograd.Function):
    """The same in a backward pass alone."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor) -> Tensor:
        return hidden.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return put(grad)


class Around(nn.Module):
    """A layer, and something after it."""

    def __init__(self, inside: nn.Module, after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inside, self.after = inside, after

    def forward(self, hidden: Tensor) -> Tensor:
        return self.after(self.inside(hidden))


def with_put(after: Callable[[Tensor], Tensor]) -> Forward:
    model = causal("llama")
    model.model.layers[0].mlp = Around(model.model.layers[0].mlp, after)
    return Forward(model)


MICRO = micro_of(3, 5)


def computed(forward: Forward) -> Tensor:
    with forward.examined(MICRO, 1):
        loss = forward.loss(MICRO, 1)
        loss.backward()
    return loss.detach()


def twice(compute: Callable[[], Any]) -> None:
    with named_if_it_fails(compute):
        compute()


@pytest.mark.parametrize(
    ("after", "compute"),
    [
        (put, lambda forward: forward.losses(MICRO)),
        (put, computed),
        (PutsBack.apply, computed),
    ],
    ids=["losses", "forward", "backward"],
)
def test_an_operation_without_a_deterministic_kernel_is_named(
    after: Callable[[Tensor], Tensor], compute: Callable[[Forward], Tensor]
) -> None:
    forward = with_put(after)
    assert compute(forward).isfinite().all()
    torch.use_deterministic_algorithms(True)
    with pytest.raises(UsageError) as refused:
        compute(forward)
    assert refused.value.cause == Cause.NOT_DETERMINISTIC
    assert "the operation put" in refused.value.what
    assert refused.value.remedies[0].do == "the same command without --deterministic"
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(
    "fail",
    [
        lambda: torch.zeros(2) @ torch.zeros(3),
        lambda: (_ for _ in ()).throw(RuntimeError("of the model")),
        lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("none left")),
        lambda: {}["a"],
    ],
    ids=["shapes", "its own", "memory", "another kind"],
)
def test_other_errors_stay_what_they_are(fail: Callable[[], Any], deterministic: bool) -> None:
    with pytest.raises(Exception) as plain:
        fail()
    torch.use_deterministic_algorithms(deterministic)
    with pytest.raises(Exception) as found:
        twice(fail)
    assert (type(found.value), str(found.value)) == (type(plain.value), str(plain.value))


def test_what_fails_once_only_is_told_as_it_was() -> None:
    torch.use_deterministic_algorithms(True)
    times: list[int] = []

    def compute() -> None:
        times.append(1)
        if len(times) == 1:
            raise RuntimeError("once")

    with pytest.raises(RuntimeError, match="once"):
        twice(compute)
    assert len(times) == 2


def test_without_the_setting_nothing_runs_twice() -> None:
    times: list[int] = []

    def compute() -> None:
        times.append(1)
        raise RuntimeError("of the model")

    with pytest.raises(RuntimeError):
        twice(compute)
    assert times == [1]
