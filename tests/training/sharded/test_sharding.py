"""Shards need groups of one size."""

import pytest

from headway.base.errors import Cause, UsageError
from headway.runs.workers import WorkerTree
from headway.training.sharded.sharding import Sharding


def test_groups_of_different_sizes_are_refused_before_anything_is_made() -> None:
    with pytest.raises(UsageError) as refused:
        Sharding.of(WorkerTree(3, 2), "cpu")
    assert refused.value.cause is Cause.CONTRADICTION
    assert "--groups 1" in {remedy.do for remedy in refused.value.remedies}
