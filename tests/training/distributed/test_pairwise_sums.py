"""Sums that travel between workers have the bits of one process's sum."""

from pathlib import Path

import pytest
from tests.training.distributed.gloo import LEAVES, run_ranks
from tests.training.distributed.sums_of_leaves import added, bits

from headway.runs.workers import WorkerTree


@pytest.mark.parametrize("tree", [WorkerTree(2), WorkerTree(3, 2)], ids=str)
def test_every_worker_has_the_bits_of_one_process(tree: WorkerTree, tmp_path: Path) -> None:
    alone = [
        [None if one is None else one.hex() for one in bits(added(range(num)))]
        for num in (LEAVES, LEAVES, 2)
    ]
    for sums in alone:
        sums[2] = None  # the parameter that is read as one without a gradient
    assert run_ranks(tmp_path, tree, "pairwise") == [alone] * tree.workers
