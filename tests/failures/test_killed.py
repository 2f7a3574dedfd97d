"""The trainer is killed or asked to stop at random instants, and nothing is lost or repeated.

F01 SIGKILL · F03 SIGTERM · F04 SIGINT, once and twice · F34 no receipt before the end
"""

import random
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.failures.forks import Forks, Told
from tests.helpers import weight_hashes
from tests.training.jobs import KINDS

from headway.base.errors import Exit
from headway.base.events import AttemptStarted, EventLog, Saved, StepDone, read_events
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import load_receipt

KILLS = {"text": 50, "conversations": 10, "adapters on text": 10, "adapters on conversations": 10}
GRACE_S = 10


@pytest.fixture(scope="module")
def twins() -> dict[str, tuple[float, dict[str, Any]]]:
    """Of each kind the training that nobody disturbed: its seconds, and what came of it."""
    return {}


@pytest.fixture
def runs(data: Path, tmp_path: Path, forks: Forks, twins: dict[str, Any], kind: str) -> "Runs":
    runs = Runs(forks, KINDS[kind](data), tmp_path)
    if kind not in twins:
        told = runs.train()
        assert told.code == Exit.KEPT
        twins[kind] = told.seconds, outcome(runs.run)
        runs.run = runs.fresh()
    runs.life_s, runs.twin = twins[kind]
    return runs


class Runs:
    """Trainings of one plan, one after the other, each in a folder of its own."""

    def __init__(self, forks: Forks, plan: Plan, folder: Path) -> None:
        self.forks = forks
        self.plan = replace(plan, saves=replace(plan.saves, every_steps=2))
        self.folder = folder
        self.number = 0
        self.run = self.fresh()
        self.life_s, self.twin = 0.0, {}

    def fresh(self) -> RunFolder:
        self.number += 1
        run = self.folder / f"run-{self.number}"
        run.mkdir()
        self.plan.save(run)
        return RunFolder(run)

    def train(self, *signals: tuple[float, int], mutant: str = "") -> Told:
        """One attempt, begun as the supervisor begins it."""
        newest = self.run.checkpoints()[-1:]
        step = newest[0].global_step if newest else 0
        name = newest[0].path.name if newest else ""
        EventLog(self.run.events).write(AttemptStarted(self.run.path.name, "", 1, step, name))
        return self.forks.train(self.run.path, *signals, mutant=mutant)

    def campaign(self, num: int, seed: str, draw: Callable[[random.Random, float], Any]) -> int:
        """Interrupt attempts until `num` of them were; every finished run equals its twin."""
        chance, met, finished = random.Random(seed), 0, 0
        while met < num or not finished:
            whole = not self.run.checkpoints()
            told = self.train(*draw(chance, self.life_s))
            check_folder(self.run)
            if told.code == Exit.KEPT:
                assert outcome(self.run) == self.twin
                finished += 1
                self.life_s = told.seconds if whole else self.life_s  # a machine may be busy
                self.run = self.fresh()
            else:
                met += 1
                check_end(self.run, told)
        return finished


def outcome(run: RunFolder) -> dict[str, Any]:
    """Everything that must be the same, bit by bit, however a training came about."""
    newest, problems = run.newest_verified()
    assert newest is not None, problems
    receipt, state = load_receipt(run.path), newest.state()
    steps = [e.event for e in read_events(run.events) if isinstance(e.event, StepDone)]
    return {
        "bits": weight_hashes(newest.path),
        "state": replace(state, step_seconds=0.0),
        "rows": receipt.rows,
        "tokens": receipt.tokens,
        "steps": receipt.steps,
        "learned": receipt.learning_facts,
        "judged": (receipt.contract, receipt.line),
        "told": [replace(step, seconds=0.0) for step in steps],
    }


def check_folder(run: RunFolder) -> None:
    """What was told as saved is there; a receipt is there if and only if all of it was done."""
    newest, problems = run.newest_verified()
    assert problems == []
    saved = [e.event.global_step for e in read_events(run.events) if isinstance(e.event, Saved)]
    assert (newest.global_step if newest else 0) >= max(saved, default=0)
    if run.is_finished:
        receipt = load_receipt(run.path)
        assert newest is not None
        assert receipt.contract.verdict == "kept"
        assert newest.global_step == receipt.steps.applied == receipt.steps.planned


def check_end(run: RunFolder, told: Told) -> None:
    """Of an attempt that did not come to its end."""
    if told.code == -signal.SIGKILL:
        return
    if told.code == -signal.SIGTERM:  # before it listens
        return
    assert told.code in {Exit.COME_BACK, Exit.INTERRUPTED}
    assert told.after_s <= GRACE_S


# ---- killed ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_f01_f34_killed_at_random_instants_it_ends_as_if_it_had_not_been(
    runs: "Runs", kind: str
) -> None:
    runs.campaign(KILLS[kind], kind, killed)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", KINDS)
def test_f01_chaos_a_thousand_kills(runs: "Runs", kind: str) -> None:
    runs.campaign(250, f"chaos {kind}", killed)


def killed(chance: random.Random, life_s: float) -> list[tuple[float, int]]:
    return [(chance.uniform(0, life_s), signal.SIGKILL)]


# ---- asked to stop -----------------------------------------------------------------------------


def terminated(chance: random.Random, life_s: float) -> list[tuple[float, int]]:
    return [(chance.uniform(0.005, life_s), signal.SIGTERM)]


def interrupted_twice(chance: random.Random, life_s: float) -> list[tuple[float, int]]:
    first_s = chance.uniform(0.005, life_s)
    return [(first_s, signal.SIGINT), (first_s + chance.uniform(0, 0.05), signal.SIGINT)]


@pytest.mark.parametrize(("kind", "num"), [("text", 10), ("adapters on conversations", 5)])
def test_f03_o03_asked_to_stop_at_random_instants_it_saves_the_last_step(
    runs: "Runs", kind: str, num: int
) -> None:
    saves_what_is_done(runs, num, kind)


def saves_what_is_done(runs: Runs, num: int, seed: str) -> None:
    chance = random.Random(seed)
    for _ in range(num):
        told = runs.train(*terminated(chance, runs.life_s))
        check_folder(runs.run)
        if told.code == Exit.KEPT:
            assert outcome(runs.run) == runs.twin
            runs.run = runs.fresh()
            continue
        check_end(runs.run, told)
        log = [entry.event for entry in read_events(runs.run.events)]
        done = max((e.step for e in log if isinstance(e, StepDone)), default=0)
        newest, _ = runs.run.newest_verified()
        assert (newest.global_step if newest else 0) == done
    assert runs.train().code == Exit.KEPT
    assert outcome(runs.run) == runs.twin


@pytest.mark.parametrize("kind", ["conversations"])
def test_f04_asked_twice_it_leaves_at_once_and_can_go_on(runs: "Runs", kind: str) -> None:
    runs.campaign(10, kind, interrupted_twice)


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["text", "adapters on text"])
def test_f03_f04_chaos_a_hundred_stops_of_each_kind(runs: "Runs", kind: str) -> None:
    saves_what_is_done(runs, 100, f"chaos {kind}")
    runs.run = runs.fresh()
    runs.campaign(100, f"chaos {kind}", interrupted_twice)


# ---- the tests above can fail ------------------------------------------------------------------

DIES = """
import os, signal
from headway.base.events import EventLog, Saved
tell = EventLog.write
def dying(self, event):
    tell(self, event)
    if isinstance(event, Saved) and event.global_step >= 4:
        os.kill(os.getpid(), signal.SIGKILL)
EventLog.write = dying
"""
MUTANTS = {
    "rows are counted anew": """
from dataclasses import replace
from headway.training.ledger import Totals
restore = Totals.from_state
Totals.from_state = lambda state: replace(restore(state), row_sum=0, applications=0)
""",
    "a step is taken again": """
from dataclasses import replace
from headway.training.ledger import Totals
restore = Totals.from_state
Totals.from_state = lambda state: replace(restore(state), job_step=state.job_step - 1)
""",
    "the moments start over": """
from headway.training import setup
restore = setup.restore_moments
def fresh(optimizer, parameters, saved, num):
    return restore(optimizer, parameters, {k: t * 0 for k, t in saved.items()}, num)
setup.restore_moments = fresh
""",
    "the age of the moments starts over": """
from headway.training import setup
restore = setup.restore_moments
setup.restore_moments = lambda o, p, saved, n: restore(o, p, saved, 1)
""",
    "dropout is drawn by the process": """
import os
from headway.training import step
step.dropout_seed, _ = lambda *_: os.getpid(), step.dropout_seed  # which has to be there
""",
    "the copy is written while the weights move on": """
import torch
from headway.training.weights.checkpoint import Snapshot
take = Snapshot.take
def shared(self):
    take(self)
    self._weights = {n: t.detach() for n, t in self._live_weights().items()}
Snapshot.take = shared
write = Snapshot.write
def late(self, *given):
    import time
    time.sleep(0.1)
    return write(self, *given)
Snapshot.write = late
""",
}


@pytest.mark.parametrize("kind", ["adapters on text"])
@pytest.mark.parametrize("mutant", MUTANTS)
def test_f01_a_resume_that_is_not_exact_is_noticed(runs: "Runs", kind: str, mutant: str) -> None:
    assert runs.train(mutant=MUTANTS[mutant] + DIES).code == -signal.SIGKILL
    ended = runs.train(mutant=MUTANTS[mutant])
    assert ended.code != Exit.KEPT or outcome(runs.run) != runs.twin


@pytest.mark.parametrize("kind", ["adapters on text"])
def test_f01_what_is_only_killed_there_is_its_twin(runs: "Runs", kind: str) -> None:
    assert runs.train(mutant=DIES).code == -signal.SIGKILL
    assert runs.train().code == Exit.KEPT
    assert outcome(runs.run) == runs.twin
