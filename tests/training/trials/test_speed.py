"""Speed of this machine: both number formats measured, the best that any run has seen kept."""

import time
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from headway.base.host.peak_memory import peak_process_bytes
from headway.training.trials import speed
from headway.training.trials.speed import bf16_is_faster, peak_flops, peak_memory_bytes


def test_both_number_formats_are_measured_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: dict[str, float] = {}
    monkeypatch.setattr(speed, "measured", notes.get)
    monkeypatch.setattr(speed, "remember", notes.__setitem__)
    monkeypatch.setattr(speed, "bf16_gain", lambda _: 0.0)
    assert bf16_is_faster(1)
    assert len(notes) == 2
    assert all(rate > 1e6 for rate in notes.values())
    monkeypatch.setattr(speed, "bf16_gain", lambda _: 1e9)
    assert not bf16_is_faster(1)


def test_a_first_product_that_compiles_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take longer than all that is measured: bf16 would be slower than fp32."""
    notes: dict[str, float] = {}
    monkeypatch.setattr(speed, "measured", notes.get)
    monkeypatch.setattr(speed, "remember", notes.__setitem__)
    clock = SimpleNamespace(now_s=0.0, seen=set[torch.dtype]())
    seconds = {torch.bfloat16: 1e-3, torch.float32: 2e-3}

    def product(a: Tensor, _: Tensor) -> Tensor:
        clock.now_s += seconds[a.dtype] if a.dtype in clock.seen else 0.3
        clock.seen.add(a.dtype)
        return a

    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    both = {"perf_counter": lambda: clock.now_s, "monotonic": lambda: clock.now_s}
    monkeypatch.setattr(speed, "time", SimpleNamespace(**both))
    assert bf16_is_faster(1)
    assert sorted(notes.values()) == pytest.approx([2 * 512**3 / 2e-3, 2 * 512**3 / 1e-3])
    clock.seen.clear()
    notes.clear()
    assert peak_flops("cpu", torch.bfloat16, 1, began_s=-60.0) == pytest.approx(2 * 1024**3 / 1e-3)


def test_peak_memory_on_a_processor_is_that_of_the_process() -> None:
    assert peak_memory_bytes("cpu") == pytest.approx(peak_process_bytes(), rel=0.1)


def test_the_machines_peak_is_the_best_that_any_run_has_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notes: dict[str, float] = {}
    monkeypatch.setattr(speed, "measured", notes.get)
    monkeypatch.setattr(speed, "remember", notes.__setitem__)
    monkeypatch.setattr(speed, "_MEASURE_S", 0.01)
    found = peak_flops("cpu", torch.float32, 1, began_s=-60.0)
    assert found > 1e8
    assert list(notes.values()) == [found]
    (what,) = notes
    notes[what] = 1.0  # a machine that was busier then
    assert peak_flops("cpu", torch.float32, 1, began_s=time.monotonic()) == 1.0
    assert peak_flops("cpu", torch.float32, 1, began_s=time.monotonic() - 11.0) > 1e8
    notes[what] = 1e18  # a machine that was less busy then
    assert peak_flops("cpu", torch.float32, 1, began_s=-60.0) == 1e18
