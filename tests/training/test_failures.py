"""Failures: out-of-memory halves the micro-batch, everything else becomes a refusal."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import Ran, run
from tests.training.jobs import planned

from headway.base.errors import BrokenContract, Cause, Exit
from headway.base.events import Ended, Noted, PhaseEntered, StepDone
from headway.model.forward import Forward
from headway.runs.plan import Plan, load_plan
from headway.runs.settled import Settled, load_settled
from headway.training.failures import as_refusal, is_out_of_memory

TRYING = PhaseEntered("trying the largest batch")


def fails(patch: pytest.MonkeyPatch, when: Callable[[Any], bool], *, where: str = "loss") -> None:
    """Memory runs out where a micro-batch is computed, or where its gradient is there already."""
    real, loss = getattr(Forward, where), Forward.loss
    last: list[Any] = []

    def noted(self: Forward, micro: Any, num_trained: int) -> torch.Tensor:
        last[:] = [micro]
        return loss(self, micro, num_trained)

    def limited(self: Forward, *given: Any) -> Any:
        if when(given[0] if given else last[0]):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return (noted if where == "loss" else real)(self, *given)

    if where != "loss":
        patch.setattr(Forward, "loss", noted)
    patch.setattr(Forward, where, limited)


def adjusted(ran: Ran) -> list[str]:
    return [noted.finding.what for noted in ran.of(Noted) if noted.finding.kind == "adjusted"]


def with_little_memory(plan: Plan) -> Plan:
    return replace(plan, memory=replace(plan.memory, free=plan.memory.peak))


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("where", ["loss", "collect_gradients"])
def test_f54_a_step_without_memory_enough_is_taken_again_in_halves(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, bf16: bool
) -> None:
    plan = planned(here, micro_batch_tokens=64, bf16=bf16)
    twin = run(tmp_path / "twin", plan)
    seen: list[int] = []

    def sixth_or_later(micro: Any) -> bool:
        seen.append(len(micro.ids_N))
        return len(seen) > 6 and seen[-1] > 32

    with monkeypatch.context() as patch:
        fails(patch, sixth_or_later, where=where)
        ran = run(tmp_path / "run", plan)
    assert ran.code == Exit.KEPT
    assert adjusted(ran) == ["out of memory: micro-batches of 32 tokens from here on"]
    assert load_settled(ran.folder.path, plan).micro_batch_tokens == 32
    assert ran.folder.plan() == load_plan(twin.folder.path)
    assert ran.receipt.rows.row_sum == ran.receipt.rows.row_sum_planned
    for ours, theirs in zip(ran.of(StepDone), twin.of(StepDone), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=2e-2 if bf16 else 1e-5)
        assert ours.grad_norm == pytest.approx(theirs.grad_norm, rel=2e-2 if bf16 else 1e-4)


def test_who_goes_on_later_takes_the_smaller_pieces(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(here, micro_batch_tokens=64)

    def killed(event: Any, job: Any) -> None:
        if isinstance(event, StepDone) and event.step == 5:
            job.stop.ask("SIGTERM", Exit.COME_BACK)

    with monkeypatch.context() as patch:
        fails(patch, lambda micro: len(micro.ids_N) > 32)
        twin = run(tmp_path / "twin", plan)
        run(tmp_path / "run", plan, on=killed)
    with monkeypatch.context() as patch:
        fails(patch, lambda micro: len(micro.ids_N) > 32)
        ran = run(tmp_path / "run", plan, attempt=2)
        assert adjusted(ran) == adjusted(twin)  # told once, by the first attempt
    assert ran.hashes() == twin.hashes()


def test_one_row_cannot_be_cut(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        fails(patch, lambda _: True)
        ran = run(tmp_path / "run", planned(here, micro_batch_tokens=64))
    assert ran.code == Exit.MACHINE
    assert [what.split(":")[1] for what in adjusted(ran)] == [
        f" micro-batches of {tokens} tokens from here on" for tokens in (32, 16)
    ]


def test_exact_is_exact(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fails(monkeypatch, lambda micro: len(micro.ids_N) > 32)
    ran = run(tmp_path / "run", planned(here, micro_batch_tokens=64, exact=True))
    assert ran.code == Exit.MACHINE
    assert adjusted(ran) == []


# ---- B07: the largest batch comes late ---------------------------------------------------------


def test_b07_the_largest_micro_batch_is_run_first(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned(here, micro_batch_tokens=64)
    before: list[str] = []

    def told(event: Any, _: Any) -> None:
        before.append(type(event).__name__)

    with monkeypatch.context() as patch:
        fails(patch, lambda micro: len(micro.ids_N) > 32)
        ran = run(tmp_path / "run", with_little_memory(plan), on=told)
    assert ran.code == Exit.KEPT
    assert len(ran.of(Noted)) == 1
    assert before.index("Noted") < before.index("StepDone")
    assert TRYING in ran.of(PhaseEntered)
    # Trying changed nothing: neither a weight nor a draw.
    twin = run(tmp_path / "twin", planned(here, micro_batch_tokens=32))
    assert ran.hashes() == twin.hashes()
    assert TRYING not in twin.of(PhaseEntered)  # memory is plenty


# ---- errors as refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_an_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_each_kind_of_error_has_a_cause(here: Path, tmp_path: Path) -> None:
    plan = planned(here)
    settled = Settled.from_plan(plan)
    refused = BrokenContract("x", cause=Cause.NOT_FINITE)
    assert as_refusal(refused, "training", plan, settled, tmp_path) is refused
    memory = as_refusal(MemoryError(), "training", plan, settled, tmp_path)
    assert (memory.cause, memory.code) == (Cause.OUT_OF_MEMORY, Exit.MACHINE)
    bug = as_refusal(ZeroDivisionError(), "training", plan, settled, tmp_path)
    assert (bug.cause, bug.code) == (Cause.BUG, Exit.BUG)


class PutsBack(torch.autograd.Function):
    """What has no deterministic kernel, on a CPU either, in the backward pass."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.clone()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.put(torch.zeros(1, dtype=torch.long), grad.flatten()[:1])


def test_an_operation_without_a_deterministic_kernel_ends_the_run_by_name(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Forward.hidden_states
    monkeypatch.setattr(Forward, "hidden_states", lambda *given: PutsBack.apply(real(*given)))
    torch.use_deterministic_algorithms(True)
    try:
        ran = run(tmp_path / "run", planned(here))
    finally:
        torch.use_deterministic_algorithms(False)
    assert ran.code == Exit.USAGE
    (ended,) = ran.of(Ended)
    assert ended.finding is not None
    assert ended.finding.cause == Cause.NOT_DETERMINISTIC
    assert "put" in ended.finding.what
    assert not ran.of(StepDone)
    assert not (ran.folder.path / "traceback.txt").exists()
