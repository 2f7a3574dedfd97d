"""A step on tensors without memory is Headway's own, and its bytes are what the plan expects."""

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("full_size_memory")


def test_a_step_without_memory_takes_what_is_expected(memory: Any) -> None:
    names = ("full", "full-recomputed", "lora")
    cases = tuple(one for one in memory.CASES if one.name in names)
    full, recomputed, lora = memory.measure(["7M"], cases)
    assert [one.name for one in (full, recomputed, lora)] == [f"7M {name}" for name in names]
    for peak in (full, recomputed, lora):
        assert peak.ratio == pytest.approx(1, abs=memory.WITHIN)
    assert lora.actual < 0.7 * full.actual
    assert recomputed.actual < 0.7 * full.actual
