"""A worker that is alone computes every leaf, and its sum is the step's."""

import numpy as np
import torch

from headway.runs.workers import Node
from headway.training.distributed.messages import LossSums
from headway.training.distributed.team import ALONE, Share


def test_a_single_worker_has_all_leaves_and_adds_nothing() -> None:
    gradients = [torch.ones(2), None]
    share = Share(4, 8, torch.tensor([0.5]), {Node(3, 0): gradients}, np.arange(5), 7, 1.0)
    together = ALONE.add_up(share, lambda: None)
    assert list(ALONE.own(8)) == list(range(8))
    assert together.gradients is gradients
    assert together.workers == 1
    assert together.rows_R.tolist() == [0, 1, 2, 3, 4]
    sums = (LossSums(0.5, 0.25, 1, 1),)
    assert ALONE.collect(4, sums) == sums
    assert ALONE.totals == ALONE.take_findings() == []
    assert ALONE.shared_bytes == 0
