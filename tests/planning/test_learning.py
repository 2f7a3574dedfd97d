"""Learning rate and warmup: the defaults, what is given, and what is adjusted."""

from typing import Any

import pytest
from tests.helpers import TINY, decided, findings, folder_of, in_memory

from headway.planning.model_source import InitialModel


@pytest.mark.parametrize(
    ("asked", "num", "warmup"),
    [
        (None, 10, 0),
        (None, 100, 5),
        (None, 10_000, 100),
        (0, 10, 0),
        (3, 10, 3),
        (0.2, 10, 2),
        (9, 10, 9),
        (10, 10, 1),
        (500, 10, 1),
        (0.99, 10, 1),
        (5, 1, 0),
    ],
)
def test_l07_warm_up_never_lasts_the_whole_job(asked: Any, num: int, warmup: int) -> None:
    given = {} if asked is None else {"warmup_steps": asked}
    plan = decided(in_memory(1601), max_length=16, max_steps=num, **given)
    assert plan.learning.warmup_steps == warmup
    adjusted = asked is not None and (asked if asked >= 1 else round(asked * num)) != warmup
    assert bool(findings(plan, "adjusted")) == adjusted


@pytest.mark.parametrize(
    ("start", "given", "peak"),
    [
        (TINY, {}, 3e-3),
        (InitialModel("preset", "base", ""), {}, 6e-4),
        (folder_of(), {}, 2e-5),
        (folder_of(), {"lora": True}, 2e-4),
        (folder_of(), {"lr": 1e-3}, 1e-3),
        (folder_of(), {"learning_rate_multiplier": 2}, 4e-5),
        (folder_of(), {"lora": True, "learning_rate_multiplier": 0.5}, 1e-4),
    ],
)
def test_the_peak_rate(start: InitialModel, given: dict[str, Any], peak: float) -> None:
    assert decided(in_memory(1601), start, **given).learning.peak == peak


def test_a_multiplied_rate_says_of_what() -> None:
    plan = decided(in_memory(1601), folder_of(), lora=True, learning_rate_multiplier=2)
    assert plan.choice("learning_rate").value == 4e-4
    assert plan.choice("learning_rate").reason == "2 x 2e-4, usual for LoRA"
