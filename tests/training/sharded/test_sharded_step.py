"""Workers run the same number of micro-batches, whatever each has to do."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.helpers import run
from tests.training.jobs import planned
from tests.training.sharded.shards import assert_same, run_shards, weights_of

from headway.runs.workers import WorkerTree
from headway.training.sharded.sharded_step import ShardedStepper


@pytest.mark.parametrize("workers", [3, 4])
def test_workers_without_rows_in_a_step_change_nothing(
    here: Path, tmp_path: Path, workers: int
) -> None:
    given = {"batch_size": 2, "max_steps": 2, "micro_batch_tokens": 16, "reduction": "hsdp"}
    plan = planned(here, **given, nproc=workers)
    assert plan.steps.leaves < workers  # so that one of them has none
    one = run(tmp_path / "one", plan)
    shards = run_shards(tmp_path / "shards", plan, WorkerTree(workers, 1))
    assert shards.receipt.contract.verdict == "kept", shards.receipt.line
    assert 0 in {worker.rows for worker in shards.receipt.workers}
    assert_same(shards.weights, weights_of(one.folder), 1e-5)


def test_a_step_that_is_to_be_dropped_is_not_begun() -> None:
    from headway.training.distributed.team import StepDropped

    stepper: Any = ShardedStepper.__new__(ShardedStepper)  # without a team: nobody is told
    batch: Any = np.zeros(0)
    with pytest.raises(StepDropped):
        stepper.take_step(batch, lambda: True)
