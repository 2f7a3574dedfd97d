"""Copies for a save: an update waits for them, and so does whoever reads them."""

import weakref
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import causal
from tests.training.jobs import STATE
from torch import Tensor

from headway.model.load import trainable
from headway.runs.folder import MOMENTS
from headway.runs.plan import LearningPlan
from headway.training.optimizer import hidden_matrices, make_optimizer, moments
from headway.training.weights.checkpoint import Snapshot
from headway.training.weights.host_copies import GpuCopies, ProcessorCopies, copies_from


class LateCopies(ProcessorCopies):
    """Copies as a busy GPU makes them: not before somebody has to wait for them."""

    def __init__(self, *, holds_back: bool = True) -> None:
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.holds_back = holds_back

    def begin(self, copies: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
        self.pending = list(zip(copies, tensors, strict=True))

    def hold_back(self) -> None:
        if self.holds_back:
            self.wait()

    def wait(self) -> None:
        for copy, tensor in self.pending:
            copy.copy_(tensor)
        self.pending = []


def saved_beside_an_update(folder: Path, optim: Any, host: LateCopies) -> list[bool]:
    """Whether what was saved is the state before the update that came after it."""
    plan = LearningPlan(optim, 1e-2, "constant", 0, 0.1, 0.9, 0.95, 1e-8, 1.0)
    model = causal("llama")
    parameters = trainable(model)
    optimizer = make_optimizer(parameters, plan, hidden_matrices(model))

    def update(seed: int) -> None:
        draws = torch.Generator().manual_seed(seed)
        for p in parameters.values():
            p.grad = torch.randn(p.shape, generator=draws)
        optimizer.step()

    update(1)
    snapshot = Snapshot(model, optimizer, parameters, host)
    wanted = [
        {name: p.detach().clone() for name, p in parameters.items()},
        {name: t.clone() for name, t in moments(optimizer, parameters).items()},
    ]
    snapshot.take()
    assert host.pending  # nobody has waited
    update(2)
    snapshot.write(folder / "checkpoint-1", STATE, folder, {})
    found = [load_file(folder / "checkpoint-1" / name) for name in ("model.safetensors", MOMENTS)]
    return [
        all(torch.equal(one[name], whole[name]) for name in one)
        for one, whole in zip(found, wanted, strict=True)
    ]


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_an_update_comes_after_the_copies_before_it(tmp_path: Path, optim: str) -> None:
    assert saved_beside_an_update(tmp_path, optim, LateCopies()) == [True, True]


def test_an_update_that_does_not_wait_would_be_noticed(tmp_path: Path) -> None:
    host = LateCopies(holds_back=False)
    assert saved_beside_an_update(tmp_path, "adamw", host) == [False, False]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A stand-in for CUDA that notes what it is asked."""
    calls: list[Any] = []
    event = SimpleNamespace(synchronize=lambda: calls.append("the host waits"))

    def stream(name: str) -> Any:
        return SimpleNamespace(
            wait_stream=lambda other: calls.append(f"{name} waits for {other.name}"),
            wait_event=lambda one: calls.append(f"{name} waits for the copies: {one is event}"),
            record_event=lambda: (calls.append(f"{name} has an event"), event)[1],
            name=name,
        )

    @contextmanager
    def use(one: Any) -> Any:
        calls.append(f"on {one.name}")
        yield
        calls.append("back")

    @contextmanager
    def on_device(_: Any) -> Any:
        yield

    def register(at: int, num_bytes: int, flags: int) -> int:
        calls.append((at, num_bytes, flags))
        return 801  # not supported: the memory stays as it is

    copy_ = Tensor.copy_

    def copy(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        calls.append(f"copy, waits: {not non_blocking}")
        return copy_(self, source, non_blocking)

    main = stream("main")
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: stream("side"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: main)
    monkeypatch.setattr(torch.cuda, "stream", use)
    monkeypatch.setattr(torch.cuda, "device", on_device)
    monkeypatch.setattr(torch.cuda, "cudart", lambda: SimpleNamespace(cudaHostRegister=register))
    monkeypatch.setattr(Tensor, "copy_", copy)
    return calls


def test_a_gpu_copies_beside_the_step_and_before_the_next_update(calls: list[Any]) -> None:
    host = GpuCopies(torch.device("cuda", 0))
    host.hold_back()  # nothing to wait for yet
    host.wait()
    tensor = torch.arange(6.0)
    copy = host.memory(tensor)
    calls.clear()
    host.begin([copy], [tensor])
    host.hold_back()
    host.wait()
    assert calls == [
        "side waits for main",
        "on side",
        "copy, waits: False",
        "back",
        "side has an event",
        "main waits for the copies: True",
        "the host waits",
    ]
    assert torch.equal(copy, tensor)


@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        (torch.ones(3, 5), torch.float32),
        (torch.ones(3, dtype=torch.bfloat16), torch.float32),
        (torch.tensor(7.0), torch.float32),
        (torch.ones(9, dtype=torch.uint8), torch.uint8),
        (torch.ones(0), torch.float32),
    ],
)
def test_a_gpus_copies_take_their_own_size_in_memory_that_it_can_reach(
    calls: list[Any], tensor: Tensor, dtype: torch.dtype
) -> None:
    for host in (GpuCopies(torch.device("cuda", 0)), ProcessorCopies()):
        memory = host.memory(tensor)
        assert (memory.shape, memory.dtype) == (tensor.shape, dtype)
        assert not memory.any()
    pinned = [call for call in calls if isinstance(call, tuple)]
    num_bytes = tensor.numel() * dtype.itemsize
    assert [size for _, size, _ in pinned] == ([num_bytes] if num_bytes else [])
    assert all(at % 4096 == 0 for at, _, _ in pinned)


def test_what_a_gpu_copies_is_kept_until_it_is_copied(calls: list[Any]) -> None:
    host, tensor = GpuCopies(torch.device("cuda", 0)), torch.ones(3)
    alive = weakref.ref(tensor)
    host.begin([host.memory(tensor)], [tensor])
    del tensor
    assert alive() is not None
    host.wait()
    assert alive() is None
    assert calls


def test_who_copies_follows_the_device(calls: list[Any]) -> None:
    assert type(copies_from(torch.device("cpu"))) is ProcessorCopies
    assert type(copies_from(torch.device("cuda", 0))) is GpuCopies
    assert not calls
