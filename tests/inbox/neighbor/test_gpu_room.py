"""Room on the GPUs, by what a driver would say: there is no GPU in these tests."""

import os
import subprocess
import threading

import pytest

from headway.diagnose.evidence.facts import GpuFacts
from headway.inbox.neighbor.gpu_room import (
    CLEAR_S,
    GpuProbe,
    GpuRoom,
    Gpus,
    RoomRules,
    no_room,
    own_processes,
)

GB = 10**9
OURS = {100, 101}


def gpu(free: int, *pids: int, index: int = 0) -> GpuFacts:
    return GpuFacts(index, "card", 0.5, 80 * GB - free, 80 * GB, pids)


@pytest.mark.parametrize(
    ("rules", "gpus", "is_training", "why"),
    [
        (RoomRules(20 * GB), (), False, ""),  # nobody can tell
        (RoomRules(20 * GB), (gpu(20 * GB),), False, ""),
        (RoomRules(20 * GB), (gpu(19 * GB),), False, "19.0 GB free on GPU 0, 20.0 GB wanted"),
        # One of several is enough.
        (RoomRules(20 * GB), (gpu(19 * GB), gpu(21 * GB, index=1)), False, ""),
        # What training itself uses is no reason to stop it.
        (RoomRules(20 * GB), (gpu(1 * GB, 100),), True, ""),
        (RoomRules(20 * GB), (gpu(1 * GB, 100, 7),), True, ""),
        # Giving way.
        (RoomRules(0, True), (gpu(1 * GB),), False, ""),
        (RoomRules(0, True), (gpu(1 * GB, 100, 101),), True, ""),
        (RoomRules(0, True), (gpu(70 * GB, 7),), False, "1 other program on GPU 0"),
        (RoomRules(0, True), (gpu(1 * GB, 100, 7, 8),), True, "2 other programs on GPU 0"),
        (RoomRules(0, True), (gpu(1 * GB, 100, 7), gpu(1 * GB, index=1)), True, ""),
        # Whose numbers are these? Not stopping is better than stopping for oneself.
        (RoomRules(0, True), (gpu(1 * GB, 7, 8),), True, ""),
        (
            RoomRules(20 * GB, True),
            (gpu(70 * GB, 7), gpu(1 * GB, index=1)),
            False,
            "1 other program on GPU 0",
        ),
    ],
)
def test_whether_there_is_room(rules: RoomRules, gpus: Gpus, is_training: bool, why: str) -> None:
    assert no_room(rules, gpus, OURS, is_training=is_training) == why


def test_after_another_program_the_gpu_has_to_stay_free() -> None:
    now: list[Gpus] = [(gpu(70 * GB),)]
    room = GpuRoom(RoomRules(20 * GB, gives_way=True), lambda: now[0], lambda: OURS)
    assert room.why_not(0.0, is_training=False) == ""  # it was free all the time
    now[0] = (gpu(1 * GB, 7, 100),)
    assert room.why_not(1.0, is_training=True) == "1 other program on GPU 0"
    now[0] = (gpu(70 * GB),)
    assert room.why_not(2.0, is_training=False) == "the GPU became free just now"
    assert room.why_not(0.9 + CLEAR_S, is_training=False) != ""
    assert room.why_not(1.0 + CLEAR_S, is_training=False) == ""


def test_without_rules_nobody_is_asked() -> None:
    room = GpuRoom(RoomRules(), lambda: pytest.fail("asked"), lambda: pytest.fail("asked"))
    assert room.why_not(0.0, is_training=False) == ""


def test_a_driver_that_stops_to_answer_does_not_free_the_gpu() -> None:
    answers: list[Gpus] = [(gpu(1 * GB, 7),), (), (gpu(70 * GB),)]
    asked, go_on = threading.Semaphore(0), threading.Semaphore(0)

    def sleep(_: float) -> None:
        asked.release()
        go_on.acquire()
        if not answers:
            answers.append(())  # as often as it is asked

    probe = GpuProbe(lambda _: answers.pop(0), sleep)
    seen: list[Gpus] = []
    for _ in range(3):
        assert asked.acquire(timeout=60)
        seen.append(probe())
        go_on.release()
    assert seen == [(gpu(1 * GB, 7),), (gpu(1 * GB, 7),), (gpu(70 * GB),)]


def test_without_a_gpu_nothing_is_asked_again() -> None:
    probe = GpuProbe(lambda _: (), lambda _: pytest.fail("there is nothing to wait for"))
    assert probe() == ()


def test_the_processes_of_the_inbox_are_its_own() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        assert {os.getpid(), child.pid} <= own_processes()
        child.kill()
    assert os.getppid() not in own_processes()
