"""Other work on the machine: counted from the kernel's own numbers, told only where it slows."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from headway.base.host import contention
from headway.base.host.contention import CpuTimes, OtherWork, cpu_times, other_work

BEFORE = CpuTimes(at_s=100, cores=2, busy_s=50, steal_s=5, own_s=20, periods=100, throttled=10)
STAT = """cpu  300 0 100 1000 0 0 0 50 0 0
cpu0 {user} 10 20 500 9 1 1 25 0 0
cpu1 100 0 50 500 0 0 0 25 0 0
cpu64 9999 0 0 0 0 0 0 0 0 0
intr 1
"""


def test_what_lies_between_two_snapshots() -> None:
    after = CpuTimes(110, 2, busy_s=69, steal_s=6, own_s=27, periods=200, throttled=60)
    assert other_work(BEFORE, after) == OtherWork(
        seconds=10, cores=2, other_cores=1.2, busy=0.95, steal=0.05, throttled=0.5
    )


@pytest.mark.parametrize("before", [None, BEFORE])
def test_without_counters_or_time_there_is_no_finding(before: CpuTimes | None) -> None:
    assert other_work(before, before) is None


QUIET = OtherWork(10, 2, other_cores=0.1, busy=0.98, steal=0.0, throttled=0.0)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, []),
        ({"other_cores": 1.2}, ["other processes used 1.2 of 2 cores"]),
        ({"other_cores": 1.2, "busy": 0.7}, []),  # there was room for both
        ({"cores": 64, "other_cores": 3}, []),
        ({"steal": 0.25}, ["the host gave 25% of the cores' time to others (steal)"]),
        ({"throttled": 0.4}, ["a CPU quota ran out in 40% of its periods"]),
    ],
)
def test_only_what_slows_is_told(changes: dict[str, float], told: list[str]) -> None:
    assert replace(QUIET, **changes).facts() == told


def test_only_the_cores_that_may_be_used_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stat").write_text(STAT.format(user=200))
    monkeypatch.setattr(contention, "_PROC", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    times = cpu_times()
    assert times is not None
    per_s = os.sysconf("SC_CLK_TCK")
    assert (times.cores, times.busy_s, times.steal_s) == (2, 382 / per_s, 50 / per_s)


def test_where_the_kernel_tells_nothing_nothing_is_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contention, "_PROC", tmp_path)
    assert cpu_times() is None


def test_a_quota_is_read_from_the_group_that_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, throttled in (("inner", 0), ("outer", 7)):
        (tmp_path / name).mkdir()
        text = f"usage_usec 5\nnr_periods 20\nnr_throttled {throttled}\nthrottled_usec 9\n"
        (tmp_path / name / "cpu.stat").write_text(text)
    folders = [tmp_path / "inner", tmp_path / "outer", tmp_path / "none"]
    monkeypatch.setattr(contention, "cgroup_folders", lambda: folders)
    times = cpu_times()
    assert times is not None
    assert (times.periods, times.throttled) == (20, 7)


def test_children_belong_to_their_parent_alive_and_dead() -> None:
    code = """
import time
while time.process_time() < 0.3: pass
print(flush=True)
input()
"""
    before = cpu_times()
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alive, only = cpu_times(), cpu_times((child.pid,))
        child.communicate(b"\n")
    dead = cpu_times()
    assert before
    assert alive
    assert only
    assert dead
    assert alive.own_s - before.own_s >= 0.2
    assert dead.own_s - before.own_s >= 0.2
    assert 0.2 <= only.own_s < alive.own_s
