"""Memory that only grows, steps that take longer, processes that stay; and healthy runs."""

import math
from pathlib import Path

import pytest
from tests.guard.judge.left import facts_of

from headway.base.process_id import ProcessId
from headway.guard.facts import MemoryReading, Orphan, ProgressRecord
from headway.guard.judge.rules.resources import resources
from headway.guard.judge.traces.case import read_case

GB = 10**9


def memory(grown: "type") -> tuple[MemoryReading, ...]:
    return tuple(
        MemoryReading(10.0 * at, round((2 + grown(at / 100)) * GB) + at % 7 * 10**6)
        for at in range(100)
    )


@pytest.mark.parametrize(
    ("grown", "is_told"),
    [
        (lambda share: 5 * share, True),
        (lambda share: 5 * share**2, True),
        (lambda share: 5 * min(share, 0.2), False),  # it fills up, and stays
        (lambda share: 5 * (1 - math.exp(-6 * share)), False),  # it levels off
        (lambda share: 2 * math.sin(20 * share), False),
        (lambda share: 0.1 * share, False),
        (lambda share: 0, False),
    ],
)
def test_memory(tmp_path: Path, grown: "type", *, is_told: bool) -> None:
    found = list(resources(read_case(facts_of(tmp_path, memory=memory(grown)))))
    assert [one.kind for one in found] == ["warning"] * is_told
    short = facts_of(tmp_path, memory=memory(grown)[:5])
    assert list(resources(read_case(short))) == []


@pytest.mark.parametrize(
    ("step_s", "is_told"),
    [
        (lambda at: 1 + at / 20, True),
        (lambda at: 1.0, False),
        (lambda at: 10.0 if at < 5 else 1.0, False),  # it was compiling
        (lambda at: 30.0 if at % 25 == 0 else 1.0, False),  # it evaluates
        (lambda at: 1 + at % 5, False),
        (lambda at: 0.001 * (1 + at), False),  # over before it means anything
    ],
)
def test_throughput(tmp_path: Path, step_s: "type", *, is_told: bool) -> None:
    at_s, records = 0.0, []
    for step in range(1, 101):
        at_s += step_s(step)
        records += [
            ProgressRecord(at_s + 0.01 * again, step=step, total=100, is_bar=True)
            for again in range(2)
        ]
    found = list(resources(read_case(facts_of(tmp_path, records=tuple(records)))))
    assert [one.kind for one in found] == ["warning"] * is_told


def test_what_outlived_it_is_named(tmp_path: Path) -> None:
    orphans = tuple(
        Orphan(ProcessId(pid, 1), ("python", "-c", f"worker {pid}")) for pid in range(11, 16)
    )
    (finding,) = resources(read_case(facts_of(tmp_path, orphans=orphans)))
    assert "5 processes" in finding.what
    assert "11: python -c worker 11" in finding.have
    assert finding.remedies[0].do == "kill -9 11 12 13 14 15"
