"""A job with its model in shards trains what one worker trains, and shows it by the same means."""

from pathlib import Path
from typing import Any

import pytest
from tests.helpers import run, stop_after
from tests.training.jobs import adapted, planned
from tests.training.sharded.shards import assert_same, run_shards, weights_of

from headway.base.events import Evaluated, Noted, Probed, Sampled
from headway.base.pulse import Pulse
from headway.runs.verification.verify import verify
from headway.runs.workers import WorkerTree

SHARDS: dict[str, Any] = {"reduction": "hsdp", "max_steps": 3, "batch_size": 8}
JOBS = {
    "text": (planned, "text", {}),
    "conversations in many micro-batches": (planned, "chats", {"micro_batch_tokens": 32}),
    "adapters": (adapted, "chats", {"lora_dropout": 0.0}),
}


@pytest.mark.parametrize("tree", [WorkerTree(2, 1), WorkerTree(4, 2)])
@pytest.mark.parametrize("job", JOBS)
def test_shards_train_what_one_worker_does(
    here: Path, tmp_path: Path, job: str, tree: WorkerTree
) -> None:
    make, data, given = JOBS[job]
    workers = {"nproc": tree.workers, "groups": tree.groups}
    plan = make(here, data, **SHARDS, **workers, **given)
    one = run(tmp_path / "one", plan)
    shards = run_shards(tmp_path / "shards", plan, tree)
    assert shards.receipt.contract.verdict == "kept", shards.receipt.line
    assert shards.receipt.reduction == "hsdp"
    assert {step.workers for step in shards.steps} == {tree.workers}
    alone = [step for step in one.events if step.__class__.__name__ == "StepDone"]
    for ours, theirs in zip(shards.steps, alone, strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
        assert (ours.rows, ours.row_sum) == (theirs.rows, theirs.row_sum)
    assert_same(shards.weights, weights_of(one.folder), 1e-5)
    tensors = shards.receipt.learning_facts.tensors
    assert tensors is not None
    assert tensors.changed == tensors.saved == tensors.trainable
    assert all(one.computing > 0.01 for one in shards.receipt.workers[1:])  # below the root
    assert not verify(shards.folder, Pulse()).differences


@pytest.mark.parametrize("workers", [2, 3])
def test_evaluations_and_samples_are_those_of_one_worker(
    here: Path, tmp_path: Path, workers: int
) -> None:
    given = {"eval_steps": 1, "val_size": 4, "sample_steps": 2, "sample_tokens": 4}
    given |= {"micro_batch_tokens": 32}  # more micro-batches than workers, not all have as many
    plan = planned(here, **SHARDS, **given, nproc=workers)
    one = run(tmp_path / "one", plan)
    shards = run_shards(tmp_path / "shards", plan, WorkerTree(workers, 1))
    assert [e.prompt + e.text for e in shards.of(Sampled)] == [
        e.prompt + e.text for e in one.of(Sampled)
    ]
    assert len(shards.of(Evaluated)) == 2
    for kind in (Evaluated, Probed):
        for ours, theirs in zip(shards.of(kind), one.of(kind), strict=True):
            assert ours.held_out == pytest.approx(theirs.held_out, rel=1e-5)


@pytest.mark.parametrize("then", [WorkerTree(3, 1), WorkerTree(1, 1)])
def test_a_checkpoint_resumes_with_another_number_of_workers(
    here: Path, tmp_path: Path, then: WorkerTree
) -> None:
    plan = planned(here, **SHARDS, nproc=2)
    one = run(tmp_path / "one", plan)
    folder = tmp_path / "shards"
    stopped = run_shards(folder, plan, WorkerTree(2, 1), on=stop_after(1))
    assert stopped.receipt.outcome == "interrupted"
    assert stopped.receipt.steps.applied == 1
    if then.workers == 1:
        ended = run(folder, plan, attempt=2).receipt
    else:
        ended = run_shards(folder, plan, then, attempt=2).receipt
    assert ended.contract.verdict == "kept", ended.line
    assert_same(weights_of(stopped.folder), weights_of(one.folder), 1e-5)


def test_a_checkpoint_of_one_worker_resumes_in_shards(here: Path, tmp_path: Path) -> None:
    plan = planned(here, **SHARDS, nproc=2)
    one = run(tmp_path / "one", plan)
    run(tmp_path / "shards", plan, on=stop_after(2))
    shards = run_shards(tmp_path / "shards", plan, WorkerTree(2, 1), attempt=2)
    assert shards.receipt.contract.verdict == "kept", shards.receipt.line
    assert_same(shards.weights, weights_of(one.folder), 1e-5)


def test_shards_that_compute_in_bf16_keep_weights_and_moments_in_fp32(
    here: Path, tmp_path: Path
) -> None:
    plan = planned(here, **SHARDS, nproc=2, bf16=True)
    shards = run_shards(tmp_path / "shards", plan, WorkerTree(2, 1))
    assert shards.receipt.contract.verdict == "kept", shards.receipt.line
    assert shards.receipt.environment["compute_dtype"] == "bfloat16"
    assert {str(t.dtype) for t in shards.weights.values()} == {"torch.float32"}
    one = run(tmp_path / "one", planned(here, **SHARDS, nproc=2))
    assert_same(shards.weights, weights_of(one.folder), 0.1)
    assert not [event for event in shards.of(Noted) if "float32" in str(event)]
