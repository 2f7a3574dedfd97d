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
        config, documents = (
            of(case, device) for of in (step_memory.config_of, step_memory.documents_of)
        )
        return step_memory.estimate(case, device, config, documents)

    found = {one.name: estimated(one) for one in step_memory.CASES}
    assert found["usual-full-fp32"] > found["usual-full"] > found["usual-full-8bit"]
    for shape in step_memory.SHAPES:
        for way in ("full", "lora", "4bit"):
            assert found[f"{shape}-{way}"] > found[f"{shape}-{way}-recomputed"]
        assert found[f"{shape}-full"] > found[f"{shape}-lora"] > found[f"{shape}-4bit"]


def test_a_page_names_the_worst(step_memory: Any) -> None:
    peaks = [step_memory.Peak("one", 100, 100), step_memory.Peak("two", 90, 100)]
    page = step_memory.page(peaks, "cpu", {"torch": "2"})
    assert "not yet run on a GPU" in page
    assert "the worst is 0.90 (two), the median 0.95" in page
    assert "| two | 90 B | 100 B | 0.90 |" in page
