"""Sharding of a run: the mesh of its workers, and its model made shard by shard."""

from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from headway.base.errors import Cause, Remedy, UsageError
from headway.model.lazy_weights import LazyWeights
from headway.model.sharded import Whole, shard
from headway.runs.plan import Plan
from headway.runs.workers import WorkerTree
from headway.training.weights.initial_weights import starting_model

# A wait in native code cannot be seen; a worker that is alive and silent for so long ends it.
_LONGEST = timedelta(minutes=10)


@dataclass(frozen=True)
class Sharding:
    """Where the shards of a model are.

    Attributes:
        mesh: (groups, workers of a group); weights are cut over the second.
    """

    mesh: DeviceMesh

    @classmethod
    def of(cls, tree: WorkerTree, device: str) -> "Sharding":
        """The mesh of all workers; made by all of them at the same time.

        Raises:
            UsageError: groups differ in size, so that they cannot hold the same shards.
        """
        if tree.workers % tree.groups:
            raise _uneven(tree)
        shape = (tree.groups, tree.workers // tree.groups)
        mesh = init_device_mesh(device, shape, mesh_dim_names=("groups", "workers"))
        for group in (None, *mesh.get_all_groups()):
            dist.distributed_c10d._set_pg_timeout(_LONGEST, group)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - the only way
        return cls(mesh)

    @property
    def is_first_group(self) -> bool:
        """Whether this worker is in the group that writes the weights."""
        return self.mesh.get_local_rank("groups") == 0

    def starting_model(self, plan: Plan, dtype: torch.dtype) -> tuple[nn.Module, Whole]:
        """The model before the first step, in shards; weights are read from their files one by one.

        Args:
            plan: of the run.
            dtype: that it computes in.

        Raises:
            UsageError: a folder is missing, does not load, or cannot be read weight by weight.
        """
        lazy = LazyWeights()
        model = starting_model(plan, lazy.from_folder)
        return model, shard(model, self.mesh, dtype, lazy.read)


def _uneven(tree: WorkerTree) -> UsageError:
    return UsageError(
        f"{tree.workers} workers in {tree.groups} groups cannot hold copies of a model in shards",
        cause=Cause.CONTRADICTION,
        have="groups of different sizes",
        need="the same number of workers in each group, or on each machine",
        remedies=(
            Remedy("--groups 1", "a single copy, in shards over all workers"),
            Remedy("--reduction tree", "the whole model in each worker"),
        ),
    )
