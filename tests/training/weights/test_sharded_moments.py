"""Moments in parts read back whole; counts that differ are kept beside them."""

from pathlib import Path
from typing import Any

import torch
from tests.ranks import in_ranks
from torch.distributed.tensor import DTensor, Shard

from headway.runs.folder import SHARDED_MOMENTS
from headway.runs.workers import WorkerTree
from headway.training.sharded.sharding import Sharding
from headway.training.weights import sharded_moments
from headway.training.weights.sharded_moments import (
    has_sharded_moments,
    read_moments,
    write_counts,
    write_parts,
)


def test_parts_in_several_files_read_back_whole(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(sharded_moments, "_FILE_BYTES", 100)  # so that there are several
    whole = {f"exp_avg/{n}": torch.randn(7, 3) for n in range(4)}
    folder = tmp_path / SHARDED_MOMENTS

    def work(place: Any, _: object) -> None:
        mesh = Sharding.of(place.tree, "cpu").mesh["workers"]
        parts = {
            name: DTensor.from_local(
                t.chunk(2)[place.rank], mesh, [Shard(0)], shape=t.shape, stride=t.stride()
            )
            for name, t in whole.items()
        }
        write_parts(folder, parts)

    assert not has_sharded_moments(tmp_path)
    in_ranks(WorkerTree(2, 1), tmp_path / "meeting", work)
    assert has_sharded_moments(tmp_path)
    assert len(list(folder.glob("*.safetensors"))) > 2
    write_counts(folder, {"step/3": torch.tensor(5.0)})
    found = read_moments(tmp_path)
    assert found.keys() == whole.keys() | {"step/3"}
    assert all(torch.equal(found[name], t) for name, t in whole.items())
    assert found["step/3"] == 5.0


def test_without_counts_that_differ_no_file_is_written(tmp_path: Path) -> None:
    write_counts(tmp_path, {})
    assert not list(tmp_path.iterdir())
