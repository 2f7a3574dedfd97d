"""The measurement of a step's memory counts what is alive, and every case can be estimated."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def step_memory(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module("step_memory")


def test_storages_that_are_alive_are_counted_once(step_memory: Any) -> None:
    known = torch.zeros(1000)
    with step_memory.LiveBytes(set(step_memory._storages([known]))) as live:
        known.add_(1)
        first = torch.ones(256)
        view = first[:10]
        assert live.peak == 1024
        del first, view
        second = torch.ones(512)
        assert live.peak == 2048
        third = second + 1
    assert live.peak == 4096
    assert len(third) == 512


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_case_is_estimated(step_memory: Any, device: str) -> None:
    def estimated(case: Any) -> int:
        config, tokens = step_memory.config_of(device), step_memory.TOKENS[device]
        return step_memory.estimate(case, device, config, tokens)

    found = {one.name: estimated(one) for one in step_memory.CASES}
    assert found["full-bf16"] > found["full-bf16-recomputed"] > found["full-bf16-8bit"]
    assert found["lora-bf16"] > found["lora-4bit-recomputed"]
