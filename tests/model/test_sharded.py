"""A model in shards computes what the whole one does, and is whole only while it runs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import causal, llama
from tests.ranks import in_ranks
from torch import Tensor
from torch.distributed.fsdp import FSDPModule

from headway.base.errors import UsageError
from headway.model.load import from_config, trainable
from headway.model.sharded import Gathered, gathered, is_sharded, like, local, shard
from headway.runs.workers import WorkerTree
from headway.training.sharded.sharding import Sharding


def loss_of(model: Any, ids_T: Tensor, num: int) -> Tensor:
    logits = model(input_ids=ids_T[None], use_cache=False).logits[0]
    return torch.nn.functional.cross_entropy(logits.float(), ids_T) / num


def rows_of(num: int) -> Tensor:
    return torch.randint(0, 200, (num, 24), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("tree", "tied", "dtype", "tolerance"),
    [
        (WorkerTree(2, 1), True, torch.float32, 1e-6),
        (WorkerTree(3, 1), False, torch.float32, 1e-6),
        (WorkerTree(4, 2), True, torch.float32, 1e-6),
        (WorkerTree(2, 1), False, torch.bfloat16, 0.05),
    ],
)
def test_gradients_are_the_sums_that_one_process_has(
    tmp_path: Path, tree: WorkerTree, tied: bool, dtype: torch.dtype, tolerance: float
) -> None:
    config, rows = llama(tie_word_embeddings=tied), rows_of(tree.workers)
    whole_model = from_config(config, 0)
    sum(loss_of(whole_model, row, len(rows)) for row in rows).backward()
    expected = trainable(whole_model)

    def work(place: Any, _: object) -> None:
        model = from_config(config, 0)
        run = shard(model, Sharding.of(place.tree, "cpu").mesh, dtype)
        run(lambda: loss_of(model, rows[place.rank], len(rows))).backward()
        found = trainable(model)
        assert list(found) == list(expected)
        for name, p in found.items():
            assert is_sharded(p), name
            assert p.dtype == torch.float32
            gradient = gathered(p.grad)
            assert gradient.dtype == torch.float32
            differs = (gradient - expected[name].grad).norm() / expected[name].grad.norm()
            assert differs <= tolerance, name

    in_ranks(tree, tmp_path, work)


def test_a_worker_holds_its_part_and_all_of_them_together_the_whole(tmp_path: Path) -> None:
    config = llama(vocab_size=205)  # which three do not divide
    expected = {name: p.detach() for name, p in from_config(config, 0).named_parameters()}

    def work(place: Any, _: object) -> None:
        model = from_config(config, 0)
        run = shard(model, Sharding.of(place.tree, "cpu").mesh, torch.float32)
        with torch.no_grad():
            run(lambda: loss_of(model, rows_of(1)[0], 1))
        found = dict(model.named_parameters())
        for name, whole in Gathered(found).items():
            assert torch.equal(whole, expected[name]), name
            assert torch.equal(local(like(found[name], whole)), local(found[name])), name
            assert local(found[name]).shape[0] <= -(-whole.shape[0] // 3), name

    in_ranks(WorkerTree(3, 1), tmp_path, work)


def test_a_torch_that_leaves_out_experts_without_a_gradient_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(FSDPModule, "set_reduce_scatter_unused_params")
    with pytest.raises(UsageError, match="a model in shards needs a newer torch"):
        shard(causal("llama"), mesh=None, dtype=torch.float32)  # pyright: ignore[reportArgumentType]
