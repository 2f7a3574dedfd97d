"""`--nproc auto`: the fastest of what was measured, and never more threads than cores."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.helpers import HERE, TINY, in_memory, settings

from headway.base.errors import UsageError
from headway.base.machine import Machine
from headway.planning.compute import KnownMachine
from headway.planning.decide import decide
from headway.runs.plan import Plan

DATA = in_memory(400_000)
SLOW, FAST = 20.0, 2e5  # tokens per second: a run of hours, a run of seconds


def facts(
    cores: int, speeds: Mapping[int, float], memory: float = 8e9, device: str = "cpu"
) -> KnownMachine:
    """A machine that has measured some numbers of workers."""

    def measured(key: str) -> float | None:
        if not key.startswith("speed|"):
            return None
        words = [part for part in key.split("|") if part.endswith(" workers")]
        return speeds.get(int(words[0].split()[0]) if words else 1)

    machine = Machine(cores, round(memory), round(memory), "a CPU", "Linux x86_64")
    return replace(HERE, machine=machine, measured=measured, device=device)


def planned(here: KnownMachine, **given: Any) -> Plan:
    given = {"nproc": "auto", "batch_size": 32, "max_length": 256, "bf16": False} | given
    return decide(settings(**given), ("notes.txt",), DATA, TINY, here)


@pytest.mark.parametrize(
    ("speeds", "workers", "why"),
    [
        ({}, 1, "nothing is measured here yet, this run is"),
        ({1: FAST}, 2, "not measured here yet, this run is"),
        ({1: FAST, 2: FAST}, 4, "not measured here yet, this run is"),
        ({1: FAST, 2: FAST / 2, 4: FAST / 3}, 1, "the fastest here"),
        ({1: FAST, 2: FAST * 2, 4: FAST / 3}, 2, "the fastest here"),
        ({1: FAST / 4, 2: FAST, 4: FAST * 2}, 4, "the fastest here"),
        ({1: SLOW}, 1, "the only one measured here"),
        ({1: SLOW, 4: SLOW * 2}, 4, "the fastest here"),
    ],
)
def test_the_fastest_of_what_was_measured_is_taken_and_a_short_run_measures_the_rest(
    speeds: dict[int, float], workers: int, why: str
) -> None:
    plan = planned(facts(4, speeds))
    assert plan.machine.workers == plan.choice("nproc").value == workers
    assert plan.machine.workers * plan.machine.threads == 4
    assert plan.choice("nproc").origin == "auto"
    assert plan.choice("nproc").reason == why
    told = [(one.workers, one.threads, one.tokens_per_second) for one in plan.machine.alternatives]
    assert told == [(n, 4 // n, speeds.get(n)) for n in (1, 2, 4)]


def test_a_run_too_short_to_remember_its_speed_claims_no_measurement() -> None:
    plan = planned(facts(4, {1: FAST}), max_steps=4)
    assert plan.machine.workers == 1
    assert "this run is" not in plan.choice("nproc").reason


@pytest.mark.parametrize("cores", [1, 2, 3, 6, 8])
@pytest.mark.parametrize("threads", [None, 1, 2, 16])
def test_there_are_never_more_threads_than_cores(cores: int, threads: int | None) -> None:
    given = {"threads": threads} if threads else {}
    for speeds in ({}, {1: FAST}, {1: FAST, 2: FAST}, dict.fromkeys((1, 2, 4, 8), FAST)):
        machine = planned(facts(cores, speeds), **given).machine
        assert machine.workers == 1 or machine.workers * machine.threads <= cores


def test_a_number_of_workers_that_does_not_fit_in_memory_is_passed_over() -> None:
    tight = facts(4, {1: FAST}, memory=7e8)
    assert planned(tight).machine.workers == 1
    with pytest.raises(Exception, match="does not fit in memory"):
        planned(tight, nproc=2)


def test_workers_that_would_have_no_leaf_are_passed_over() -> None:
    plan = planned(facts(8, {1: FAST, 2: FAST, 4: FAST}), batch_size=3)
    assert plan.machine.workers <= 2


def test_a_gpu_has_one_worker() -> None:
    assert planned(facts(8, {}, device="cuda")).machine.workers == 1


def test_groups_have_a_worker_each() -> None:
    plan = planned(facts(8, {2: FAST / 2, 4: FAST, 8: FAST / 2}), groups=2)
    assert (plan.machine.workers, plan.machine.groups) == (4, 2)


@pytest.mark.parametrize("value", ["automatic", "-1", "1.5"])
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(UsageError):
        settings(nproc=value)
