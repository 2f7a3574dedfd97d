"""Other ways to compute the same thing, and jobs that go on from other jobs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.helpers import Ran, causal, chat_store, chats, plan_of, run, text_store, weight_hashes
from tests.training.jobs import KINDS, SMALL, adapted, going_on, planned

from headway.base.errors import Exit
from headway.base.events import Noted, StepDone
from headway.data.survey.store import Store
from headway.training import trainer
from headway.training.distributed.messages import EvaluatedRows
from headway.training.weights import holding

# ---- other ways to compute ---------------------------------------------------------------------


def test_b03_a_model_that_leaks_runs_its_documents_separately(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(*_: Any, **__: Any) -> Any:
        return causal("lfm2", layer_types=["conv", "full_attention"])

    monkeypatch.setattr(holding, "starting_model", leaky)
    monkeypatch.setattr(trainer, "starting_model", leaky)
    ran = run(tmp_path / "run", planned(here))
    assert ran.receipt.contract.verdict == "kept"
    (noted,) = ran.of(Noted)
    assert noted.finding.kind == "adjusted"
    assert noted.finding.what.startswith("documents run one at a time")
    assert ran.job.trainer.setup.forward.runs_separately


@pytest.mark.parametrize("kind", ["text", "adapters on text"])
def test_l01_gradient_checkpointing_changes_memory_not_results(
    here: Path, tmp_path: Path, kind: str
) -> None:
    make = planned if kind == "text" else adapted
    given = {"max_steps": 4}
    plain = run(tmp_path / "plain", make(here, **given))
    saving = run(tmp_path / "saving", make(here, **given, gradient_checkpointing=True))
    assert saving.code == Exit.KEPT
    assert saving.hashes() == plain.hashes()


def test_smaller_pieces_change_memory_not_results(here: Path, tmp_path: Path) -> None:
    plain = run(tmp_path / "plain", planned(here, "chats"))
    pieces = run(tmp_path / "pieces", planned(here, "chats", micro_batch_tokens=16))
    losses = [[event.loss for event in ran.of(StepDone)] for ran in (plain, pieces)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_b05_an_epochs_left_over_rows_are_trained_in_it_and_weigh_what_they_are(
    here: Path, tmp_path: Path
) -> None:
    """63 rows in steps of 8: the last step of each epoch has 7, and is their mean."""
    store = text_store(tmp_path / "63 rows", 63 * 16 + 1)
    given = {**SMALL, "batch_size": 8, "num_train_epochs": 2, "max_steps": None, "val_size": 0}
    plan = plan_of(store, **given, micro_batch_tokens=32)
    ran = run(tmp_path / "run", plan)
    steps = ran.of(StepDone)
    assert [step.rows for step in steps] == 2 * ([8] * 7 + [7])
    assert [step.epoch for step in steps] == [1] * 8 + [2] * 8
    assert [step.trained_tokens for step in steps] == [16 * step.rows for step in steps]
    whole = run(tmp_path / "whole", plan_of(store, **given, micro_batch_tokens=1024))
    for ours, theirs in zip(steps, whole.of(StepDone), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-4)
    assert ran.receipt.contract.verdict == "kept"


def test_s03_many_lengths_compile_nothing(tmp_path: Path) -> None:
    """No graph is made for a shape, so that no new length holds a step up."""
    from torch._dynamo.utils import counters

    counters.clear()
    flags = ["." * (1 + 7 * i % 20) + "x" * (1 + 5 * i % 23) for i in range(40)]
    plan = plan_of(chat_store(tmp_path / "store", *flags), batch_size=4)
    ran = run(tmp_path / "run", plan)
    probed = ran.job.trainer.probes.batches(EvaluatedRows.PROBE)
    assert len({group.length for m in probed for group in m.documents}) > 3
    assert len({step.computed_tokens for step in ran.of(StepDone)}) > 5
    assert not counters["stats"]
    assert not counters["frames"]


def test_bfloat16_computes_and_weights_stay_fp32(here: Path, tmp_path: Path) -> None:
    ran = run(tmp_path / "run", planned(here, bf16=True, max_steps=4))
    assert ran.receipt.contract.verdict == "kept"
    tensors = load_file(ran.folder.model / "model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float32}
    assert ran.receipt.environment["compute_dtype"] == "bfloat16"


# ---- going on from another run -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "adapters on text"])
def test_b_f25_steps_add_from_file_to_file(here: Path, tmp_path: Path, kind: str) -> None:
    plan = KINDS[kind](here)
    ran = run(tmp_path / "1", plan)
    for number in (2, 3):
        store = text_store(tmp_path / f"store {number}", 200 + number, fingerprint=f"{number}" * 64)
        plan = plan_of(store, going_on(ran.folder), **SMALL)
        before = ran.receipt.steps.last
        ran = run(tmp_path / str(number), plan)
        assert ran.code == Exit.KEPT
        steps = ran.receipt.steps
        assert (steps.first, steps.last) == (before, before + plan.steps.num)
        assert steps.applied == plan.steps.num
        assert ran.of(StepDone)[0].global_step == before + 1
        assert ran.folder.model.resolve().name == f"checkpoint-{steps.last}"
        (noted,) = ran.of(Noted)
        assert noted.finding.what.startswith("optimizer moments of ")
        newest, _ = ran.folder.newest_verified()
        assert newest is not None
        assert newest.state().optimizer_steps == steps.last  # the moments' age goes on too


def test_r05_moments_go_on_unless_fresh_ones_are_asked_for(here: Path, tmp_path: Path) -> None:
    parent = run(tmp_path / "parent", planned(here))
    kept = plan_of(Store(here / "text"), going_on(parent.folder), max_steps=1, **SMALL)
    fresh = plan_of(
        Store(here / "text"),
        going_on(parent.folder, reset_optimizer=True),
        max_steps=1,
        reset_optimizer=True,
        **SMALL,
    )
    first, second = run(tmp_path / "kept", kept), run(tmp_path / "fresh", fresh)
    assert first.of(StepDone)[0].loss == second.of(StepDone)[0].loss  # from the same weights
    assert first.hashes() != second.hashes()
    assert [bool(ran.of(Noted)) for ran in (first, second)] == [True, False]


def test_the_run_that_was_gone_on_from_is_left_alone(here: Path, tmp_path: Path) -> None:
    parent = run(tmp_path / "parent", planned(here))
    files = {p: p.read_bytes() for p in parent.folder.path.rglob("*") if p.is_file()}
    run(tmp_path / "child", plan_of(Store(here / "text"), going_on(parent.folder), **SMALL))
    assert {p: p.read_bytes() for p in parent.folder.path.rglob("*") if p.is_file()} == files


def test_the_same_plan_twice_has_the_same_bits(here: Path, tmp_path: Path) -> None:
    rans: list[Ran] = []
    for name in ("one", "two"):
        torch.manual_seed(len(rans))
        rans.append(run(tmp_path / name, adapted(here, "chats")))
    assert rans[0].hashes() == rans[1].hashes()
    other = run(tmp_path / "other", adapted(here, "chats", seed=43))
    assert other.hashes() != rans[0].hashes()
    assert weight_hashes(other.folder.model.resolve()) == other.hashes()


def test_whoever_loads_the_model_knows_where_an_answer_ends(here: Path, tmp_path: Path) -> None:
    """The end of a turn is another token than the end of a text."""
    store = chat_store(tmp_path / "store", *chats(20), end_id=2)
    ran = run(tmp_path / "run", plan_of(store, max_steps=2))
    told = json.loads((ran.folder.model / "generation_config.json").read_text())
    assert told["eos_token_id"] == [0, 2]
    again = run(tmp_path / "again", plan_of(store, going_on(ran.folder), max_steps=2))
    told = json.loads((again.folder.model / "generation_config.json").read_text())
    assert told["eos_token_id"] == [0, 2]
