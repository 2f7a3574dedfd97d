"""A member computes what the root asks for, with the root's weights, until there is no more."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.helpers import Ran, run, settings
from tests.training.distributed.sockets import Connect
from tests.training.jobs import going_on, planned

from headway.base.errors import Exit
from headway.base.events import Evaluated, Event, Noted, PhaseEntered, Probed, StepDone
from headway.base.process import Stop
from headway.base.pulse import Phase, Pulse
from headway.planning.data_ledger import with_replay
from headway.runs.plan import Plan
from headway.runs.workers import WorkerTree
from headway.training.distributed.links import Links
from headway.training.distributed.place import TeamPlace
from headway.training.evaluation import evaluate
from headway.training.member import run_member
from headway.training.phases import Phases
from headway.training.trials import largest_batch

TREE = WorkerTree(2, 1)
OnEvent = Callable[[Event, Any], None]


def run_with_member(
    folder: Path, plan: Plan, connect: Connect, stop: Stop, on: OnEvent = lambda _, __: None
) -> tuple[Ran, object]:
    """A run of two workers: the root here, the member in a thread; and how the member ended."""
    folder.mkdir(exist_ok=True)
    plan.save(folder)
    sockets, ended = connect(TREE), list[object]()
    memory = os.memfd_create("sums")
    pulses = [Pulse(), Pulse(rank=1)]
    root, place = (
        TeamPlace(TREE, rank, Links(TREE, rank, sockets[rank], pulses[rank]), memory)
        for rank in range(2)
    )

    def member() -> None:
        try:
            ended.append(run_member(folder, place, Phases(pulses[1], None), stop))
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=member)
    thread.start()
    until_s = time.monotonic() + 60
    while pulses[1]._waiting != "worker 0" and time.monotonic() < until_s:
        time.sleep(0.01)  # both draw their first weights from torch's only random state
    try:
        return run(folder, plan, on=on, place=root), ended
    finally:
        thread.join(30)
        os.close(memory)


@pytest.fixture
def plan(here: Path) -> Plan:
    return planned(here, nproc=2, batch_size=8, max_steps=5)


def test_f53_p01_two_workers_train_what_one_would_to_the_last_bit(
    here: Path, tmp_path: Path, plan: Plan, connect: Connect
) -> None:
    assert plan.steps.leaves == 2
    two, ended = run_with_member(tmp_path / "two", plan, connect, Stop())
    one = run(tmp_path / "one", plan)
    assert ended == [0]
    assert two.receipt.contract.verdict == "kept"
    assert two.hashes() == one.hashes()
    assert [event.workers for event in two.of(StepDone)] == [2] * 5
    assert [event.workers for event in one.of(StepDone)] == [1] * 5
    assert [worker.rows for worker in two.receipt.workers] == [20, 20]
    assert [worker.cost for worker in two.receipt.workers] == pytest.approx([0.5, 0.5], abs=0.01)
    assert all(0 <= worker.spare < 0.01 for worker in two.receipt.workers)
    assert one.receipt.workers == ()


def test_f53_two_workers_replay_the_rows_that_one_would(
    here: Path, tmp_path: Path, connect: Connect
) -> None:
    parent = run(tmp_path / "parent", planned(here, max_steps=4))
    given: dict[str, Any] = {"continue_run": str(parent.folder.path), "replay": 0.5}
    start = going_on(parent.folder)
    decided = planned(here, "chats", start, nproc=2, batch_size=8, max_steps=3, **given)
    plan = with_replay(decided, settings(**given))
    assert plan.replay is not None
    two, ended = run_with_member(tmp_path / "two", plan, connect, Stop())
    one = run(tmp_path / "one", plan)
    assert ended == [0]
    assert two.hashes() == one.hashes()
    for ran in (one, two):
        assert ran.receipt.contract.verdict == "kept"
        assert ran.receipt.rows.replayed == plan.replay.num_rows == 12
    assert min(worker.rows for worker in two.receipt.workers) > 0


def test_p03_a_member_that_is_asked_to_stop_stops_the_run_which_saves(
    tmp_path: Path, plan: Plan, connect: Connect
) -> None:
    stop = Stop()

    def ask_the_member(event: Event, _: Any) -> None:
        if isinstance(event, Probed):
            stop.by = "SIGTERM"

    ran, ended = run_with_member(tmp_path / "two", plan, connect, stop, ask_the_member)
    assert ended == [0]
    assert ran.receipt.outcome == "interrupted"
    assert ran.receipt.steps.applied == 1
    assert ran.receipt.checkpoint is not None


EVALUATED = {"val_size": 6, "eval_steps": 2}


def test_an_evaluation_by_two_workers_has_the_numbers_of_one(
    here: Path, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: Counter[str] = Counter()
    real = evaluate.sum_losses

    def counted(forward: Any, micros: Any, *more: Any) -> Any:
        who = "root" if threading.current_thread() is threading.main_thread() else "member"
        computed[who] += len(micros)
        return real(forward, micros, *more)

    monkeypatch.setattr(evaluate, "sum_losses", counted)
    plan = planned(here, nproc=2, batch_size=8, max_steps=5, **EVALUATED)
    two, ended = run_with_member(tmp_path / "two", plan, connect, Stop())
    shares = dict(computed)
    one = run(tmp_path / "one", plan)
    assert ended == [0]
    assert shares["member"] == shares["root"] > 0
    assert numbers(two) == numbers(one)
    assert len(two.of(Evaluated)) == 2
    assert two.hashes() == one.hashes()
    assert two.receipt.contract.verdict == "kept"


def numbers(ran: Ran) -> list[object]:
    """Every loss that was evaluated, to the last bit."""
    held_out = [(event.global_step, event.held_out, event.rows) for event in ran.of(Evaluated)]
    told = [(event.when, event.train_probe, event.held_out) for event in ran.of(Probed)]
    return [held_out, told, ran.receipt.learning_facts]


def test_a_stop_in_an_evaluation_ends_the_run_which_saves_and_is_resumed(
    here: Path, tmp_path: Path, connect: Connect
) -> None:
    plan = planned(here, nproc=2, batch_size=8, max_steps=5, **EVALUATED)
    whole = run(tmp_path / "whole", plan)

    def stop_in_evaluation(event: Event, job: Any) -> None:
        if isinstance(event, PhaseEntered) and event.phase == Phase.EVALUATING and job.attempt:
            job.stop.ask("SIGTERM", Exit.COME_BACK)

    folder = tmp_path / "two"
    stopped, ended = run_with_member(folder, plan, connect, Stop(), stop_in_evaluation)
    assert ended == [0]
    assert (stopped.code, stopped.receipt.steps.applied) == (Exit.COME_BACK, 2)
    assert stopped.of(Evaluated) == []
    resumed, ended = run_with_member(folder, plan, connect, Stop())
    assert ended == [0]
    assert resumed.hashes() == whole.hashes()
    assert resumed.receipt.learning_facts == whole.receipt.learning_facts


def test_a_member_that_cannot_evaluate_is_named(
    here: Path, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluate.sum_losses

    def failing(*given: Any) -> Any:
        if threading.current_thread() is not threading.main_thread() and broken.is_set():
            raise RuntimeError("the cable is out")
        return real(*given)

    broken = threading.Event()
    monkeypatch.setattr(evaluate, "sum_losses", failing)
    plan = planned(here, nproc=2, batch_size=8, max_steps=5, **EVALUATED)

    def later(event: Event, _: Any) -> None:
        if isinstance(event, StepDone) and event.step == 3:
            broken.set()

    ran, ended = run_with_member(tmp_path / "two", plan, connect, Stop(), later)
    assert ended == [0]
    assert (ran.receipt.outcome, ran.receipt.steps.applied) == ("failed", 4)
    (why, *_) = ran.receipt.contract.reasons
    assert "training (worker 1) failed: RuntimeError: the cable is out" in why
    assert ran.receipt.checkpoint is not None
    assert ran.receipt.checkpoint.name == "checkpoint-4"


def test_the_largest_micro_batch_that_fits_in_every_worker_holds(
    here: Path, tmp_path: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[tuple[bool, int]] = []
    real = largest_batch.run_largest

    def run_largest(plan: Plan, forward: Any, micro: Any) -> None:
        is_root, size = threading.current_thread() is threading.main_thread(), len(micro.ids_N)
        tried.append((is_root, size))
        if not is_root and size > 32:
            raise torch.OutOfMemoryError("none left")
        real(plan, forward, micro)

    monkeypatch.setattr(largest_batch, "run_largest", run_largest)
    monkeypatch.setattr("headway.training.member.run_largest", run_largest)
    plan = planned(here, nproc=2, batch_size=8, max_steps=5, micro_batch_tokens=64)
    plan = replace(plan, memory=replace(plan.memory, free=1))
    ran, ended = run_with_member(tmp_path / "two", plan, connect, Stop())
    assert ended == [0]
    assert sorted(tried) == [(False, 32), (False, 64), (True, 32), (True, 64)]
    assert ran.job.trainer.settled.micro_batch_tokens == 32
    assert ran.receipt.contract.verdict == "kept"
    assert any("micro-batches of 32 tokens" in noted.finding.what for noted in ran.of(Noted))
