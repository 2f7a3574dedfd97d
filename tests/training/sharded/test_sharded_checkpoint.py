"""What workers save part by part is a folder of transformers, and loads into any shards."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import llama
from tests.ranks import in_ranks

from headway.base.errors import Cause, MachineError
from headway.model.load import from_config, from_folder, trainable
from headway.model.safetensors_index import INDEX, read_header
from headway.model.sharded import gathered, shard
from headway.runs.folder import SHARDED_MOMENTS
from headway.runs.workers import WorkerTree
from headway.training.sharded.sharded_checkpoint import (
    ShardedSnapshot,
    load_sharded_moments,
    load_sharded_weights,
)
from headway.training.sharded.sharding import Sharding
from headway.training.weights.checkpoint import load_moments

PARTS = ".checkpoint-parts"


class Together:
    """A team whose workers do everything at the same time anyway."""

    def enter(self, part: object, value: str = "") -> Any:
        del part, value
        return contextlib.nullcontext()


def in_shards(place: Any, seed: int, *, tied: bool) -> tuple[Any, Sharding, dict[str, Any]]:
    model = from_config(llama(tie_word_embeddings=tied), seed)
    sharding = Sharding.of(place.tree, "cpu")
    shard(model, sharding.mesh, torch.float32)
    return model, sharding, trainable(model)


def updated(parameters: dict[str, Any]) -> torch.optim.AdamW:
    """After a step with gradients that are a function of the weights."""
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-2, fused=True)
    for p in parameters.values():
        p.grad = p.detach() * 3
    optimizer.step()
    return optimizer


def expected(*, tied: bool) -> tuple[dict[str, Any], torch.optim.AdamW]:
    parameters = trainable(from_config(llama(tie_word_embeddings=tied), 1))
    return parameters, updated(parameters)


@pytest.mark.parametrize(("tree", "tied"), [(WorkerTree(3, 1), True), (WorkerTree(4, 2), False)])
def test_parts_of_all_workers_are_what_one_would_write(
    tmp_path: Path, tree: WorkerTree, tied: bool
) -> None:
    def work(place: Any, _: object) -> None:
        model, sharding, parameters = in_shards(place, 1, tied=tied)
        team: Any = Together()
        made = ShardedSnapshot(tmp_path, team, sharding, model, updated(parameters), parameters)
        made.take()

    in_ranks(tree, tmp_path / "meeting", work)
    folder = tmp_path / PARTS
    parameters, optimizer = expected(tied=tied)
    loaded = trainable(from_folder(folder, trust_remote_code=False))
    assert loaded.keys() == parameters.keys()
    assert all(torch.equal(p, parameters[name]) for name, p in loaded.items())
    shares = [len(read_header(file)) for file in folder.glob("model-*.safetensors")]
    assert len(shares) == tree.workers // tree.groups
    assert (folder / INDEX).is_file()
    assert len(list((folder / SHARDED_MOMENTS).glob("*.safetensors"))) >= len(shares)
    moments = load_moments(folder)
    for name, p in parameters.items():
        for kind in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(moments[f"{kind}/{name}"], optimizer.state[p][kind]), name
    assert len(moments) == 2 * len(parameters)

    def read(place: Any, _: object) -> None:
        model, _, own = in_shards(place, 2, tied=tied)
        load_sharded_weights(model, folder)
        found = load_sharded_moments(folder, own)
        for name, p in own.items():
            assert torch.equal(gathered(p.detach()), parameters[name]), name
            moment = gathered(found[f"exp_avg/{name}"])
            assert torch.equal(moment, optimizer.state[parameters[name]]["exp_avg"]), name

    in_ranks(WorkerTree(2, 1), tmp_path / "again", read)


def test_what_is_not_finite_is_not_saved(tmp_path: Path) -> None:
    def work(place: Any, _: object) -> None:
        model, sharding, parameters = in_shards(place, 1, tied=True)
        optimizer = updated(parameters)
        with torch.no_grad():
            next(iter(parameters.values())).mul_(float("nan"))
        team: Any = Together()
        made = ShardedSnapshot(tmp_path, team, sharding, model, optimizer, parameters)
        with pytest.raises(MachineError) as refused:
            made.take()
        assert refused.value.cause is Cause.WEIGHTS_NOT_FINITE

    in_ranks(WorkerTree(2, 1), tmp_path / "meeting", work)
    assert not list((tmp_path / PARTS).iterdir())
