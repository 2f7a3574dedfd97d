"""Sums by all-reduce, in one level or two, are the sum within rounding."""

from pathlib import Path

import pytest
import torch
from tests.training.distributed.gloo import LEAVES, run_ranks
from tests.training.distributed.sums_of_leaves import added

from headway.runs.workers import WorkerTree


@pytest.mark.parametrize("tree", [WorkerTree(2), WorkerTree(4, 2)], ids=str)
def test_every_worker_has_the_sum(tree: WorkerTree, tmp_path: Path) -> None:
    first, *others = run_ranks(tmp_path, tree, "all-reduced")
    assert others == [first] * (tree.workers - 1)
    assert isinstance(first, list)
    for told, alone in zip(first, added(range(LEAVES)), strict=True):
        if told is not None:
            assert alone is not None
            torch.testing.assert_close(torch.tensor(told), alone.flatten())
