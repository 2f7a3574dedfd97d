"""Messages pass through the tree of workers; a worker that is gone is named."""

import errno
import threading
from collections.abc import Callable

import pytest
from tests.training.distributed.sockets import Connect, Sockets

from headway.base.errors import Cause, MachineError
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed.links import DecidedOtherwise, Links, worker_gone
from headway.training.distributed.messages import Apply, Begin, End, WorkerReport


def links_of(tree: WorkerTree, sockets: Sockets) -> list[Links]:
    return [Links(tree, rank, sockets[rank], Pulse()) for rank in range(tree.workers)]


def in_threads(*work: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    return threads


def report(rank: int, step: int = 1, num_rows: int = 10) -> tuple[WorkerReport, ...]:
    return (WorkerReport(rank, step, losses=(0.5,), rows=tuple(range(num_rows))),)


@pytest.mark.parametrize("tree", [WorkerTree(2, 1), WorkerTree(7, 3), WorkerTree(4, 4)], ids=str)
def test_all_reports_reach_the_root_and_its_decision_reaches_all(
    tree: WorkerTree, connect: Connect
) -> None:
    root, *others = links_of(tree, connect(tree))
    heard: dict[int, object] = {}

    def work(rank: int, links: Links) -> None:
        links.gather(5, report(rank, num_rows=100_000))  # more than a socket holds
        heard[rank] = links.hear()

    threads = in_threads(*(lambda r=r, o=o: work(r, o) for r, o in enumerate(others, 1)))
    together = root.gather(5, report(0))
    assert [one.rank for one in together] == list(range(tree.workers))
    decision = Apply(5, (0.25,), (True, False))
    root.decide(decision)
    for thread in threads:
        thread.join(20)
    assert heard == dict.fromkeys(range(1, tree.workers), decision)


def test_a_decision_that_waits_for_no_reports_ends_the_wait_for_them(connect: Connect) -> None:
    tree = WorkerTree(4, 2)  # rank 2 leads, rank 3 is below it
    root, _, leader, below = links_of(tree, connect(tree))
    root.decide(End())
    with pytest.raises(DecidedOtherwise):
        leader.gather(1, report(2))  # rank 3 has not reported
    assert leader.hear() == End()
    assert below.hear() == End()


def test_reports_of_an_exchange_that_was_given_up_are_left_out(connect: Connect) -> None:
    tree = WorkerTree(2, 1)
    root, other = links_of(tree, connect(tree))
    other.gather(1, report(1, step=1))
    root.decide(Begin(2, 1, 512))
    assert other.hear() == Begin(2, 1, 512)
    other.gather(2, report(1, step=7))
    assert [one.step for one in root.gather(2, ())] == [7]


def test_a_worker_whose_process_ended_is_named(connect: Connect) -> None:
    tree = WorkerTree(3, 1)
    sockets = connect(tree)
    root, first, second = links_of(tree, sockets)
    first.gather(1, report(1))
    sockets[2][0].close()
    with pytest.raises(MachineError, match="worker 2 is gone") as error:
        root.gather(1, report(0))
    assert error.value.cause is Cause.WORKER_LOST
    del second
    sockets[0][1].close()
    with pytest.raises(MachineError, match="worker 0 is gone"):
        first.hear()


def test_a_wait_beats_names_the_worker_and_can_be_ended(connect: Connect) -> None:
    tree = WorkerTree(2, 1)
    sockets = connect(tree)
    pulse = Pulse()
    root = Links(tree, 0, sockets[0], pulse)
    beats: list[str] = []

    class EnoughError(Exception):
        pass

    def on_wait() -> None:
        beats.append(pulse._waiting)
        if len(beats) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        root.gather(1, (), on_wait)
    assert beats == ["worker 1", "worker 1"]


def test_the_root_hears_of_a_worker_that_a_group_lost(connect: Connect) -> None:
    tree = WorkerTree(5, 2)  # rank 3 leads, rank 4 is below it
    sockets = connect(tree)
    root, first, second, leader, _ = links_of(tree, sockets)
    sockets[4][3].close()
    for rank, links in ((1, first), (2, second), (3, leader)):
        links.gather(1, report(rank))
    reports = root.gather(1, report(0))
    assert [one.rank for one in reports if one.problem] == [4]
    (lost,) = [one.problem for one in reports if one.problem]
    assert lost.refused is not None
    assert lost.refused.findings[0].what == "worker 4 is gone"
    root.decide(End())
    assert leader.hear() == End()


def test_a_decision_reaches_those_that_are_left(connect: Connect) -> None:
    tree = WorkerTree(3, 1)
    sockets = connect(tree)
    root, _, second = links_of(tree, sockets)
    sockets[1][0].close()
    with pytest.raises(MachineError, match="worker 1 is gone"):
        root.decide(End())
    assert second.hear() == End()


@pytest.mark.parametrize("lost", [1, 2])
def test_whoever_waits_for_one_child_sees_that_another_is_gone(connect: Connect, lost: int) -> None:
    """Worker 1 may be waiting for gradients of the one that is gone: it will never report."""
    tree = WorkerTree(3, 1)
    sockets = connect(tree)
    root, *_ = links_of(tree, sockets)
    root.check()
    sockets[lost][0].close()
    with pytest.raises(MachineError, match=f"worker {lost} is gone"):
        root.check()
    with pytest.raises(MachineError, match=f"worker {lost} is gone"):
        root.gather(1, report(0))


def test_a_check_takes_no_message(connect: Connect) -> None:
    tree = WorkerTree(2, 1)
    root, other = links_of(tree, connect(tree))
    other.gather(1, report(1))
    root.check()
    assert [one.rank for one in root.gather(1, ())] == [1]
    root.decide(End())
    other.check()
    assert other.hear() == End()


@pytest.mark.parametrize(
    ("number", "have"),
    [
        (errno.ETIMEDOUT, "its machine stopped answering"),
        (errno.EHOSTUNREACH, "its machine stopped answering"),
        (errno.ENETUNREACH, "its machine stopped answering"),
        (errno.ENETDOWN, "its machine stopped answering"),
        (errno.ECONNRESET, "its process ended"),
        (errno.EPIPE, "its process ended"),
        (None, "its process ended"),
    ],
)
def test_a_machine_that_is_silent_is_no_process_that_ended(number: int | None, have: str) -> None:
    gone = worker_gone(3, OSError(number, "") if number else None)
    assert gone.what == "worker 3 is gone"
    assert gone.have.startswith(have)
    assert gone.cause is Cause.WORKER_LOST
