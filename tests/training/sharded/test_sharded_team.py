"""All enter a part together; where one fails the root names the one that began it."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.training.distributed.sockets import Connect

from headway.base.errors import BrokenContract, Cause, MachineError, Remedy, message_of
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree
from headway.training.distributed.links import Links
from headway.training.distributed.messages import Enter, JointPart, Start
from headway.training.sharded.sharded_team import (
    ShardedMember,
    ShardedRoot,
    asking_why,
    telling_why,
)

FULL = MachineError("the disk is full", cause=Cause.DISK_FULL, remedies=(Remedy("df -h"),))


def linked(connect: Connect, tree: WorkerTree) -> list[Links]:
    sockets = connect(tree)
    return [Links(tree, rank, sockets[rank], Pulse(rank=rank)) for rank in range(tree.workers)]


def weights(value: float = 1.0) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.full((2, 2), value))]


def root_of(tree: WorkerTree, links: Links, stay: Any = contextlib.nullcontext) -> ShardedRoot:
    return ShardedRoot(tree, links, weights(), lambda _: None, stay)


def refuse(error: Exception) -> Any:
    what = f"out of memory: {type(error).__name__}"
    return message_of(MachineError(what, cause=Cause.OUT_OF_MEMORY))


def fail(links: Links, rank: int, error: Exception) -> None:
    """A worker that cannot go on, up to the end of its process."""
    with pytest.raises(MachineError), telling_why(links, rank, refuse):
        raise error
    links.close()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (FULL, Cause.DISK_FULL),
        (MemoryError(), Cause.OUT_OF_MEMORY),
        (RuntimeError("Connection closed by peer"), Cause.WORKER_LOST),
    ],
)
def test_the_root_says_what_a_worker_below_it_says(
    connect: Connect, error: Exception, cause: Cause
) -> None:
    tree = WorkerTree(2, 1)
    root, member = linked(connect, tree)
    fail(member, 1, error)
    with pytest.raises(MachineError) as refused, asking_why(root):
        raise RuntimeError("Connection closed by peer")
    assert refused.value.cause is cause


def test_the_worker_that_failed_first_is_named_not_one_that_lost_it(connect: Connect) -> None:
    tree = WorkerTree(4, 2)  # 1 reports to 0, 3 to 2
    links = linked(connect, tree)
    fail(links[1], 1, RuntimeError("Connection closed by peer"))
    fail(links[3], 3, FULL)
    fail(links[2], 2, RuntimeError("Connection closed by peer"))
    with pytest.raises(MachineError) as refused, asking_why(links[0]):
        raise RuntimeError("Connection closed by peer")
    assert refused.value.cause is Cause.DISK_FULL


def test_a_worker_that_was_killed_is_named(connect: Connect) -> None:
    tree = WorkerTree(3, 1)
    links = linked(connect, tree)
    links[2].close()  # without a word
    fail(links[1], 1, RuntimeError("Connection closed by peer"))
    with pytest.raises(MachineError) as refused, asking_why(links[0]):
        raise RuntimeError("Connection closed by peer")
    assert refused.value.cause is Cause.WORKER_LOST
    assert "worker 2" in refused.value.what


def test_an_error_of_the_root_itself_stays_what_it_is(connect: Connect) -> None:
    tree = WorkerTree(2, 1)
    root, _ = linked(connect, tree)
    for error in (FULL, MemoryError("none left")):
        with pytest.raises(type(error)) as raised, asking_why(root):
            raise error
        assert raised.value is error


def test_a_part_is_announced_and_nothing_leaves_it(connect: Connect) -> None:
    tree = WorkerTree(2, 1)
    root_links, member_links = linked(connect, tree)
    stayed = list[str]()

    @contextlib.contextmanager
    def stay() -> Any:
        stayed.append("in")
        yield
        stayed.append("out")

    root = root_of(tree, root_links, stay)
    root.start(b"", "")
    started = member_links.hear()
    assert isinstance(started, Start)
    member = ShardedMember(tree, 1, member_links, weights(), started, lambda: "", refuse)
    with root.enter(JointPart.AUDIT, "checkpoint-3"):
        assert stayed == ["in"]
        asked = member.next_decision()
        assert isinstance(asked, Enter)
        assert (asked.part, asked.value) == (JointPart.AUDIT, "checkpoint-3")
    assert stayed == ["in", "out"]
    assert not root.is_broken


def test_what_all_find_alike_breaks_nothing_and_what_one_meets_does(connect: Connect) -> None:
    tree = WorkerTree(2, 1)
    root = root_of(tree, linked(connect, tree)[0])
    with pytest.raises(BrokenContract), root.enter(JointPart.STEP, "1"):
        raise BrokenContract("the loss is not finite", cause=Cause.NOT_FINITE)
    assert not root.is_broken
    with pytest.raises(MachineError), root.enter(JointPart.SAVE):
        raise FULL
    assert root.is_broken


@pytest.mark.parametrize(("of_rank_3", "differs"), [(2.0, False), (3.0, True)])
def test_shards_are_compared_with_those_at_the_same_place_in_other_groups(
    connect: Connect, of_rank_3: float, differs: bool
) -> None:
    tree = WorkerTree(4, 2)
    links = linked(connect, tree)
    root = root_of(tree, links[0])
    shards = {1: 2.0, 2: 1.0, 3: of_rank_3}  # 0 and 2 have one half, 1 and 3 the other

    def member(rank: int) -> None:
        started = links[rank].hear()
        assert isinstance(started, Start)
        own = weights(shards[rank])
        team = ShardedMember(tree, rank, links[rank], own, started, lambda: "", refuse)
        assert isinstance(team.next_decision(), Enter)
        with contextlib.suppress(Exception):  # the root does not answer what it refuses
            team.compare_weights(3)

    threads = [threading.Thread(target=member, args=(rank,)) for rank in shards]
    for thread in threads:
        thread.start()
    root.start(b"", "")
    outcome: Callable[[], Any] = lambda: root.compare_weights(3)  # noqa: E731
    if differs:
        with pytest.raises(BrokenContract) as refused:
            outcome()
        assert refused.value.cause is Cause.WEIGHTS_DIFFER
    else:
        outcome()
    for one in links:
        one.close()
    for thread in threads:
        thread.join(20)
