"""The simulation of workers: trees, events, costs and failures, each beside what is known."""

import dataclasses
import importlib
import math
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from headway.runs.workers import WorkerTree

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


def costs(load: Load, **changed: float) -> Any:
    """Everything for nothing, but what is said."""
    module = load("tree.costs")
    names = module.Costs.__dataclass_fields__
    return module.Costs(**(dict.fromkeys(names, 0.0) | {"cores": 2, "report_bytes": 0} | changed))


# -- trees


@pytest.mark.parametrize(
    ("units", "rank", "parent"),
    [
        ((), 0, None),
        ((), 700, 0),
        ((8,), 7, 0),
        ((8,), 8, 0),
        ((8,), 15, 8),
        ((256, 8), 263, 256),
        ((256, 8), 264, 256),
        ((256, 8), 256, 0),
        ((256, 8), 255, 248),
        ((256, 8), 248, 0),
    ],
)
def test_who_reports_to_whom(
    load: Load, units: tuple[int, ...], rank: int, parent: int | None
) -> None:
    assert load("tree.steps").parent_in(units)(rank) == parent


@pytest.mark.parametrize("workers", [1, 8, 64, 512])
def test_every_layout_has_each_worker_once(load: Load, workers: int) -> None:
    steps = load("tree.steps")
    for units in steps.LAYOUTS.values():
        tree = steps.Tree.of(workers, steps.parent_in(units))
        assert sorted([0, *(one for own in tree.children for one in own)]) == [*range(workers)]
        assert all(list(own) == sorted(own) for own in tree.children)
        assert tree.below[0] == workers


def test_two_levels_are_headways_groups(load: Load) -> None:
    steps = load("tree.steps")
    ours, theirs = WorkerTree(24, 3), steps.parent_in((8,))
    assert [theirs(rank) for rank in range(24)] == [ours.parent_of(rank) for rank in range(24)]


# -- events


def test_more_processes_than_cores_take_turns(load: Load) -> None:
    events = load("tree.events")

    def program() -> Any:
        yield events.Work(1.0)
        yield events.Mark("done")

    def last(num: int, cores: int) -> float:
        marks = events.Simulation([program() for _ in range(num)], cores, num, 0.0).run()
        return max(one["done"] for one in marks)

    assert last(2, 2) == pytest.approx(1.0)
    assert last(4, 2) == pytest.approx(2.0)
    assert last(3, 2) == pytest.approx(1.5, rel=0.01), "three share two cores evenly"


def test_a_message_takes_its_ends_and_what_is_between(load: Load) -> None:
    events = load("tree.events")

    def sender() -> Any:
        yield events.Work(1.0)
        yield events.Send(1, 0.25)

    def receiver() -> Any:
        yield events.Receive(0, 0.5)
        yield events.Mark("done")

    def done(per_machine: int) -> float:
        programs = [sender(), receiver()]
        simulation = events.Simulation(programs, 2, per_machine, 0.125, network_s=4.0)
        return simulation.run()[1]["done"]

    assert done(2) == 1.875
    assert done(1) == 5.875, "on two machines there is a network between them"


def test_all_leave_a_meeting_together(load: Load) -> None:
    events = load("tree.events")

    def program(work_s: float) -> Any:
        yield events.Work(work_s)
        yield events.Meet(10.0)
        yield events.Mark("done")

    marks = events.Simulation([program(1.0), program(3.0)], 2, 2, 0.0).run()
    assert [one["done"] for one in marks] == [13.0, 13.0]


def test_who_waits_for_ever_is_told(load: Load) -> None:
    events = load("tree.events")
    waiting = iter([events.Receive(1, 0.0)])
    with pytest.raises(RuntimeError, match="1 ranks wait for ever"):
        events.Simulation([waiting, iter([])], 2, 2, 0.0).run()


# -- steps


def test_a_step_on_one_machine_is_its_parts(load: Load) -> None:
    steps = load("tree.steps")
    known = costs(load, copy_byte_s=1.0, add_byte_s=10.0, clone_byte_s=100.0)
    step = steps.MachineStep(WorkerTree(2), num_leaves=4, num_bytes=8, leaf_s=1000.0)
    # Two leaves each; one sum of 8 bytes; half of it added and copied; all of it read.
    assert step.marks(known)["done"] == pytest.approx(2000 + 8 + 4 * (10 + 1) + 800)
    assert step.core_seconds(known) == pytest.approx(2 * (2000 + 8 + 44 + 800))


def test_eight_workers_on_two_cores_take_their_core_seconds_by_two(load: Load) -> None:
    steps = load("tree.steps")
    step = steps.MachineStep(WorkerTree(8, 2), num_leaves=8, num_bytes=0, leaf_s=1.0)
    assert step.marks(costs(load))["done"] == pytest.approx(4.0, rel=0.01)


def test_every_report_reaches_the_root_and_levels_spare_it_messages(load: Load) -> None:
    steps = load("tree.steps")

    def exchange_s(layout: str, **cost: float) -> float:
        free = load("tree.costs").Link(math.inf, 0.0)
        cluster = steps.Cluster("", free, free, free, 0.0, 0.0)
        return steps.step_time(cluster, layout, 4096, costs(load, **cost), 1).exchange_s

    # In both exchanges: 4,095 messages in and 4,095 out; or 511 machines and 7 neighbors; or the
    # way to the last worker: 38 and 15 up, 53 out of the root, 38 out of a pod's first, 7 out of
    # a machine's, and an end more for each of the levels.
    each = {layout: exchange_s(layout, message_s=1.0) for layout in steps.LAYOUTS}
    assert each["flat"] == pytest.approx(4 * 4095, rel=0.001)
    assert each["two levels"] == pytest.approx(4 * (511 + 7), rel=0.02)
    assert each["three levels"] == pytest.approx(2 * (38 + 15 + 53 + 38 + 7 + 4), rel=0.02)
    # The root unpacks every report, however many others have done so before it.
    unpacked = [exchange_s(layout, report_unpack_s=1.0) for layout in steps.LAYOUTS]
    assert unpacked == pytest.approx([4095] * 3)


@pytest.mark.parametrize(("inside", "gain"), [(12.0, 5.05), (4.0, 2.91), (1.0, 1.0)])
def test_levels_gain_where_links_differ_and_nothing_where_they_do_not(
    load: Load, inside: float, gain: float
) -> None:
    found = load("tree.costs")
    near, far = found.Link(inside, 0.0), found.Link(1.0, 0.0)
    flat = found.ring_s(4096, 1.0, far)
    assert flat / found.levels_s((8, 512), 1.0, (near, far)) == pytest.approx(gain, rel=0.01)


def test_a_third_level_saves_latency_alone(load: Load) -> None:
    found = load("tree.costs")
    near, slow = found.Link(1.0, 0.0), found.Link(1.0, 0.01)
    two = found.levels_s((8, 2048), 0.0, (near, slow))
    three = found.levels_s((8, 32, 64), 0.0, (near, slow, slow))
    assert two == pytest.approx(2 * 2047 * 0.01)
    assert three == pytest.approx(2 * (31 + 63) * 0.01)
    same = [found.levels_s(sizes, 1.0, (near,) * len(sizes)) for sizes in ((8, 2048), (8, 32, 64))]
    assert same[0] == pytest.approx(same[1])


def test_whole_buffers_in_pairs_take_their_time_on_every_level(load: Load) -> None:
    found = load("tree.costs")
    link = found.Link(1.0, 0.0)
    assert [found.pairwise_s(num, 3.0, link) for num in (1, 2, 3, 8, 9)] == [0, 6, 12, 18, 24]


# -- failures


def test_the_published_rate_is_a_failure_every_three_hours(load: Load) -> None:
    failures = load("tree.failures")
    assert failures.between_failures_s(16_384) / 3600 == pytest.approx(54 * 24 / 466)
    assert failures.between_failures_s(8) == 2048 * failures.between_failures_s(16_384)


@pytest.mark.parametrize(
    ("interval_s", "stall_s", "restart_s"), [(300, 5, 600), (60, 5, 60), (3600, 60, 600)]
)
def test_lost_time_is_that_of_the_exact_formula(
    load: Load, interval_s: float, stall_s: float, restart_s: float
) -> None:
    mean_s = 10_000.0
    lost = load("tree.failures").simulate(interval_s, stall_s, restart_s, mean_s)
    # Of exponential lives: time until an interval and its save get through, restarts included.
    whole_s = mean_s * math.exp(restart_s / mean_s) * math.expm1((interval_s + stall_s) / mean_s)
    assert lost.total == pytest.approx(1 - interval_s / whole_s, abs=0.002)


@pytest.mark.parametrize("stall_s", [5.0, 60.0])
@pytest.mark.parametrize("workers", [512, 16_384])
def test_the_formulas_interval_is_as_good_as_any(load: Load, workers: int, stall_s: float) -> None:
    failures = load("tree.failures")
    mean_s = failures.between_failures_s(workers)
    formula_s = failures.best_interval_s(stall_s, mean_s)
    best_s = failures.best_simulated_s(stall_s, 600.0, mean_s)
    assert 0.7 <= best_s / formula_s <= 1.42
    far = [failures.simulate(formula_s * t, stall_s, 600.0, mean_s).total for t in (0.25, 1, 4)]
    assert far[1] < min(far[0], far[2])


def test_a_finished_step_that_is_kept_is_not_taken_again(load: Load) -> None:
    simulate = load("tree.failures").simulate
    lost, kept, half = (
        simulate(300.0, 5.0, 600.0, 10_000.0, step_s=5.0, kept=share) for share in (0.0, 1.0, 0.5)
    )
    # Half a step on average is left to be taken again; each failure costs a save more.
    assert kept.again == pytest.approx(2.5 / 10_605, rel=0.05)
    assert lost.again > 50 * kept.again
    assert kept.again < half.again < lost.again
    assert kept.restarting > lost.restarting
    assert kept.total < lost.total


# -- the page


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(59.0, "59 s"), (60.0, "1.0 min"), (10_012.0, "2.8 h"), (20_502_777.0, "237.3 days")],
)
def test_a_duration_is_in_its_largest_unit(load: Load, seconds: float, said: str) -> None:
    assert load("tree.page").duration(seconds) == said


def test_a_ratio_is_measured_over_predicted_with_its_spread_over_the_rounds(load: Load) -> None:
    module = load("simulate_tree")
    rounds = [
        module.Compared("mini", 4, 2, 0.010, measured_s, 0.012, 0.020, core_s)
        for measured_s, core_s in ((0.020, 0.018), (0.040, 0.030), (0.030, 0.022))
    ]
    found = {"checked": [*map(dataclasses.asdict, rounds)], "not_checked": ""}
    found |= {"gradient_bytes": {"mini": 12_000_000, "small": 102_000_000}}
    *head, row = load("tree.page").checked(found)
    assert "- core seconds: 1.10 times the prediction, eight of ten between 0.90 and 1.50." in head
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == ["mini", "4", "2", "10", "30"]
    assert cells[5:8] == ["3.00 (2.00 to 4.00)", "12", "1.20 (1.20 to 1.20)"]
    assert cells[8:] == ["20", "22", "1.10 (0.90 to 1.50)"]


# -- Headway's own parts


def test_the_root_handles_each_report_and_two_workers_take_a_step(load: Load) -> None:
    runs, calibration = load("tree.team_runs"), load("tree.calibration")
    assert 0 < runs.root_report_s(calibration.a_report(3), few=2, many=64) < 0.01
    told = runs.measure(WorkerTree(2), 2, [torch.Size((3,)), torch.Size((2, 2))], 2)
    assert 0 < told.least <= told.seconds
    assert told.core_seconds > 0
