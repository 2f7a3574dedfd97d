"""Facts of a healthy run, to be changed by tests."""

from dataclasses import replace
from typing import Any

from headway.integrations.learning_rates import PlannedRates
from headway.integrations.sample_rows import SampledRows
from headway.integrations.trainer_facts import OptimizerFacts, ResumedFrom, StartFacts

SAMPLED = SampledRows(64, 1000, 900, 100, 0, -1, 64, 64, 50, 3, "f00d")
RESUMED = ResumedFrom("checkpoint-4", 4, 1.0, 1.0, None, skips_data=True)
HEALTHY = StartFacts(
    program="Trainer of transformers 5.23.0",
    first=0,
    target=16,
    updates_per_epoch=8,
    rows=32,
    rows_per_update=4,
    epochs=2.0,
    processes=1,
    rates=PlannedRates(1e-3, 1e-4, 1e-3, 1e-5, 5e-4),
    optimizer=OptimizerFacts(9, 90, 100, (), 0),
    embedding_rows=64,
    sampled=SAMPLED,
    resumed=None,
    device="cpu",
    unused_gpu="",
    wanted_metric="",
    known_metrics=("eval_loss",),
)


def facts(**changes: Any) -> StartFacts:
    return replace(HEALTHY, **changes)


def sampled(**changes: Any) -> StartFacts:
    return facts(sampled=replace(SAMPLED, **changes))


def resumed(target: int = 16, first: int = 4, **changes: Any) -> StartFacts:
    return facts(first=first, target=target, resumed=replace(RESUMED, **changes))
