"""Measuring beside training: one at a time, told when it has ended, only where there is room."""

import threading
from dataclasses import replace

from tests.ui.fixtures import conversations_plan

from headway.base.process import Stop
from headway.inbox.recall.beside import MeasuredBeside, has_room_beside


def test_one_is_measured_at_a_time_and_each_end_is_told() -> None:
    seen: list[str] = []
    beside = MeasuredBeside(lambda: seen.append("told"))
    may_end = threading.Event()

    def first(stop: Stop) -> None:
        may_end.wait(60)
        seen.append("first")
        raise OSError("the disk is full")  # which the daemon sees from what is missing

    beside.start(first)
    threading.Timer(0.05, may_end.set).start()
    beside.start(lambda _: seen.append("second"))
    beside.wait()
    assert seen == ["first", "told", "second", "told"]


def test_at_the_end_of_the_process_it_is_asked_to_stop() -> None:
    beside = MeasuredBeside(lambda: None)
    asked = threading.Event()

    def measure(stop: Stop) -> None:
        while not stop.by:
            asked.wait(0.001)
        asked.set()

    beside.start(measure)
    beside.close()
    assert asked.is_set()


def test_a_second_model_needs_room() -> None:
    plan = conversations_plan()
    need = plan.memory.peak + plan.memory.process + 8 * plan.model.parameters
    assert has_room_beside(plan, need)
    assert not has_room_beside(plan, need - 1)
    larger = replace(plan, model=replace(plan.model, parameters=2 * plan.model.parameters))
    assert not has_room_beside(larger, need)
    assert has_room_beside(replace(plan, memory=replace(plan.memory, process=0, peak=1)))
