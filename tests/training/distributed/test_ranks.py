"""Workers take a step together, or none of them takes it; the root hears why."""

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from tests.training.distributed.sockets import Connect

from headway.base.errors import BrokenContract, Cause, MachineError, OurBug, message_of
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree, nodes_of
from headway.training.distributed.checks import layout_of
from headway.training.distributed.links import Links
from headway.training.distributed.messages import (
    Apply,
    Begin,
    End,
    Evaluate,
    EvaluatedRows,
    LossSums,
    Start,
    Try,
)
from headway.training.distributed.ranks import MemberTeam, RootTeam, checksum
from headway.training.distributed.shared_sums import SharedSums
from headway.training.distributed.team import Gradients, Share, StepDropped, Together

LEAVES = 8
SHAPES = [torch.Size((4, 3)), torch.Size((5,))]
TREE = WorkerTree(3, 2)


def weights() -> list[torch.nn.Parameter]:
    draws = torch.Generator().manual_seed(1)
    return [torch.nn.Parameter(torch.randn(shape, generator=draws)) for shape in SHAPES]


def leaf(number: int) -> Gradients:
    draws = torch.Generator().manual_seed(number)  # the usual one is shared by all threads
    first, second = (torch.randn(shape, generator=draws) for shape in SHAPES)
    return [first * 10**number, None if number % 2 else second]


def share_of(team: "RootTeam | MemberTeam", step: int = 1) -> Share:
    own = team.own(LEAVES)
    sums = {node: total(node.leaves) for node in nodes_of(own)}
    losses = torch.tensor([float(n) for n in own])
    return Share(step, LEAVES, losses, sums, np.array(list(own)) + 100 * step, order=7, seconds=0.5)


def total(leaves: range) -> Gradients:
    """The sum of the leaves of a node, up the tree."""
    if len(leaves) == 1:
        return leaf(leaves[0])
    half = len(leaves) // 2
    left, right = total(leaves[:half]), total(leaves[half:])
    return [
        a if b is None else b if a is None else a.add_(b) for a, b in zip(left, right, strict=True)
    ]


@dataclass
class Crew:
    """A root and its members, each of them in a thread when it has something to do."""

    root: RootTeam
    members: list[MemberTeam]
    stops: list[str]
    done: dict[int, object] = field(default_factory=dict[int, object])

    def together(
        self, root: Callable[[], object], member: Callable[[MemberTeam], object]
    ) -> object:
        """Run all; returns what the root's part returned, or raises what it raised."""

        def run(one: MemberTeam) -> None:
            try:
                self.done[one.rank] = member(one)
            except Exception as error:
                self.done[one.rank] = error

        threads = [threading.Thread(target=run, args=(one,)) for one in self.members]
        for thread in threads:
            thread.start()
        try:
            return root()
        finally:
            self.root.end()
            for thread in threads:
                thread.join(20)


@pytest.fixture
def crew(connect: Connect, descriptor: int) -> Crew:
    return crew_of(TREE, connect, descriptor)


def crew_of(tree: WorkerTree, connect: Connect, descriptor: int) -> Crew:
    sockets = connect(tree)
    links = [Links(tree, rank, sockets[rank], Pulse()) for rank in range(tree.workers)]
    sums = [SharedSums(tree, rank, LEAVES, SHAPES, descriptor) for rank in range(tree.workers)]
    stops: list[str] = []
    root = RootTeam(tree, links[0], sums[0], weights(), stops.append)
    root.start(b"{}", "")

    def refuse(error: Exception) -> object:
        return message_of(MachineError(str(error), cause=Cause.DISK_FULL))

    members = []
    for rank in range(1, tree.workers):
        start = links[rank].hear()  # a leader passes it on
        assert start == Start(2, b"{}", layout=layout_of(weights()))
        asked = (lambda: "SIGTERM") if rank == 2 else (lambda: "")
        members.append(
            MemberTeam(tree, rank, links[rank], sums[rank], weights(), start, asked, refuse)  # type: ignore[arg-type]
        )
    return Crew(root, members, stops)


def add_up(team: RootTeam | MemberTeam, step: int = 1) -> Together:
    return team.add_up(share_of(team, step), lambda: None)


def test_every_worker_gets_the_sum_of_all_leaves_and_the_root_gets_every_row(crew: Crew) -> None:
    root = crew.together(lambda: add_up(crew.root), add_up)
    assert isinstance(root, Together)
    expected = total(range(LEAVES))
    for together in (root, *crew.done.values()):
        assert isinstance(together, Together)
        assert together.losses_K.tolist() == [float(n) for n in range(LEAVES)]
        for found, right in zip(together.gradients, expected, strict=True):
            assert found is not None
            assert right is not None
            assert torch.equal(found, right)
    assert root.rows_R.tolist() == [100 + n for n in range(LEAVES)]
    assert [worker.rows for worker in crew.root.totals] == [3, 3, 2]
    assert (root.workers, root.all_workers, root.groups, root.all_groups) == (3, 3, 2, 2)
    assert crew.stops == ["SIGTERM"]  # what asked worker 2 to stop is asked of the run


def test_a_worker_that_cannot_go_on_ends_the_step_for_all_with_its_reason(crew: Crew) -> None:
    def member(team: MemberTeam) -> object:
        if team.rank == 1:
            team.give_up(1, OSError("no room"))
            return team.next_decision()
        return add_up(team)

    with pytest.raises(MachineError, match="no room") as error:
        crew.together(lambda: add_up(crew.root), member)
    assert error.value.cause is Cause.DISK_FULL
    assert crew.done[1] == End()
    assert isinstance(crew.done[2], StepDropped)


def test_no_step_is_taken_without_the_slice_of_a_worker_that_is_gone(
    connect: Connect, descriptor: int
) -> None:
    """One below a leader, which reports the loss in its place, after all sums are written."""
    crew = crew_of(WorkerTree(4, 2), connect, descriptor)

    def member(team: MemberTeam) -> object:
        if team.rank == 3:
            team._sums.add = lambda *_: team._links.close()  # type: ignore[method-assign]
        return add_up(team)

    with pytest.raises(MachineError, match="worker 3 is gone") as error:
        crew.together(lambda: add_up(crew.root), member)
    assert error.value.cause is Cause.WORKER_LOST
    assert isinstance(crew.done[1], StepDropped)


def test_nobody_adds_for_ever_when_a_worker_is_gone(connect: Connect, descriptor: int) -> None:
    """Over a network, nothing arrives from a machine that was switched off."""
    crew = crew_of(WorkerTree(3, 1), connect, descriptor)
    asleep = threading.Event()

    def wait(_: int, on_wait: Callable[[], None]) -> None:
        for _ in range(1000):
            on_wait()
            asleep.wait(0.02)
        raise AssertionError("it would wait for ever")

    def member(team: MemberTeam) -> object:
        gone = team.rank == 2
        team._sums.add = (lambda *_: team._links.close()) if gone else wait  # type: ignore[method-assign]
        return add_up(team)

    crew.root._sums.add = wait  # type: ignore[method-assign]
    with pytest.raises(MachineError, match="worker 2 is gone"):
        crew.together(lambda: add_up(crew.root), member)
    assert isinstance(crew.done[1], StepDropped)


def test_out_of_memory_in_one_worker_drops_the_step_and_all_take_it_again(crew: Crew) -> None:
    def root() -> object:
        with pytest.raises(torch.OutOfMemoryError, match="worker 2"):
            add_up(crew.root)
        crew.root.begin(1, 128)
        return add_up(crew.root)

    def member(team: MemberTeam) -> object:
        if team.rank == 2:
            team.give_up(1, torch.OutOfMemoryError("none left"))
        else:
            with pytest.raises(StepDropped):
                add_up(team)
        decision = team.next_decision()
        assert isinstance(decision, Begin)
        return decision.micro_batch_tokens, len(add_up(team).losses_K)

    together = crew.together(root, member)
    assert isinstance(together, Together)
    assert together.rows_R.tolist() == [100 + n for n in range(LEAVES)]
    assert crew.done == {1: (128, LEAVES), 2: (128, LEAVES)}


def test_a_stop_while_the_root_waits_ends_the_step_for_all(crew: Crew) -> None:
    stopped = threading.Event()

    def stop() -> None:
        raise StepDropped

    def member(team: MemberTeam) -> object:
        assert stopped.wait(20)
        with pytest.raises(StepDropped):
            add_up(team)
        return team.next_decision()

    def root() -> None:
        with pytest.raises(StepDropped):
            crew.root.add_up(share_of(crew.root), stop)
        stopped.set()

    crew.together(root, member)
    assert crew.done == {1: End(), 2: End()}


ROWS = EvaluatedRows.HELD_OUT


def sums_of(rank: int) -> list[LossSums]:
    """What a worker's micro-batches sum up to; the last worker has none."""
    return [LossSums(rank + n / 7, n / 3, 5, 2) for n in range(2 - rank)]


def evaluate(team: MemberTeam) -> object:
    asked = team.next_decision()
    assert isinstance(asked, Evaluate)
    team.report(4, sums_of(team.rank))
    return asked


def test_an_evaluation_gives_every_workers_losses_in_the_order_of_ranks(crew: Crew) -> None:
    def root() -> object:
        crew.root.ask_to_evaluate(ROWS, 512, steps_follow=True)
        return crew.root.collect(4, sums_of(0))

    assert crew.together(root, evaluate) == (*sums_of(0), *sums_of(1))
    assert [one.rows for one in crew.done.values() if isinstance(one, Evaluate)] == [ROWS, ROWS]
    assert crew.stops == ["SIGTERM"]


def test_steps_go_on_after_an_evaluation(crew: Crew) -> None:
    def root() -> object:
        crew.root.ask_to_evaluate(ROWS, 512, steps_follow=True)
        crew.root.collect(4, sums_of(0))
        return add_up(crew.root, 5)

    def member(team: MemberTeam) -> object:
        evaluate(team)
        return add_up(team, 5)

    assert isinstance(crew.together(root, member), Together)


def test_a_worker_with_weights_of_another_step_is_named_in_an_evaluation(crew: Crew) -> None:
    def root() -> object:
        crew.root.ask_to_evaluate(ROWS, 512, steps_follow=False)
        return crew.root.collect(3, sums_of(0))

    with pytest.raises(OurBug, match="in step 3 reports were of 3, 4, 4"):
        crew.together(root, evaluate)


def test_a_worker_that_cannot_evaluate_says_why(crew: Crew) -> None:
    def root() -> object:
        crew.root.ask_to_evaluate(ROWS, 512, steps_follow=False)
        return crew.root.collect(4, sums_of(0))

    def member(team: MemberTeam) -> object:
        if team.rank == 1:
            team.next_decision()
            team.give_up(4, OSError("no room"))
            return team.next_decision()
        return evaluate(team)

    with pytest.raises(MachineError, match="no room"):
        crew.together(root, member)
    assert crew.done[1] == End()
    assert isinstance(crew.done[2], StepDropped)


def test_a_worker_that_is_gone_is_named_in_an_evaluation(crew: Crew) -> None:
    def root() -> object:
        crew.root.ask_to_evaluate(ROWS, 512, steps_follow=False)
        return crew.root.collect(4, sums_of(0))

    def member(team: MemberTeam) -> object:
        if team.rank == 2:
            team._links.close()
            return None
        return evaluate(team)

    with pytest.raises(MachineError, match="worker 2 is gone") as error:
        crew.together(root, member)
    assert error.value.cause is Cause.WORKER_LOST


def test_a_stop_while_others_evaluate_ends_it_for_all(crew: Crew) -> None:
    stopped = threading.Event()

    def stop() -> None:
        raise KeyboardInterrupt

    def root() -> None:
        crew.root.ask_to_evaluate(ROWS, 512, steps_follow=True)
        with pytest.raises(KeyboardInterrupt):
            crew.root.collect(4, sums_of(0), stop)
        crew.root.end()
        stopped.set()

    def member(team: MemberTeam) -> object:
        team.next_decision()
        team.leave_if_decided()  # nothing yet
        assert stopped.wait(20)
        with pytest.raises(StepDropped):
            team.leave_if_decided()
        return team.next_decision()

    crew.together(root, member)
    assert crew.done == {1: End(), 2: End()}


def test_a_worker_without_memory_for_the_largest_batch_makes_all_try_a_smaller_one(
    crew: Crew,
) -> None:
    def root() -> object:
        crew.root.ask_to_try(512)
        with pytest.raises(torch.OutOfMemoryError, match="worker 1"):
            crew.root.collect(0, ())
        crew.root.ask_to_try(256)
        return crew.root.collect(0, ())

    def member(team: MemberTeam) -> object:
        tried = []
        while not isinstance(asked := team.next_decision(), End):
            assert isinstance(asked, Try)
            tried.append(asked.micro_batch_tokens)
            if team.rank == 1 and len(tried) == 1:
                team.give_up(0, torch.OutOfMemoryError("none left"))
            else:
                with contextlib.suppress(StepDropped):
                    team.report(0)
        return tried

    assert crew.together(root, member) == ()
    assert crew.done == {1: [512, 256], 2: [512, 256]}


def test_a_worker_in_another_step_is_named(crew: Crew) -> None:
    with pytest.raises(OurBug, match="in step 1 reports were of 1, 1, 2"):
        crew.together(lambda: add_up(crew.root), lambda team: add_up(team, team.rank // 2 + 1))


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("skipped", [1, 2, 3, 4])
def test_f13_a_worker_that_skips_an_exchange_is_out_of_step_in_that_very_step(
    crew: Crew, rank: int, skipped: int
) -> None:
    """Exchange 1 and 2 are those of step 1, 3 and 4 those of step 2."""

    def member(team: MemberTeam) -> None:
        if team.rank == rank:
            skip(team, skipped)
        for step in (1, 2, 3):
            add_up(team, step)

    def root() -> None:
        for step in (1, 2, 3):
            reached.append(step)
            add_up(crew.root, step)

    reached: list[int] = []
    with pytest.raises(OurBug, match="not in the same step"):
        crew.together(root, member)
    assert reached[-1] == (skipped + 1) // 2


def skip(team: MemberTeam, number: int) -> None:
    """Let a member go on without taking part in one exchange."""
    exchange, calls = team._exchange, iter(range(1, 100))

    def exchanged(reports: object, on_wait: object) -> object:
        if next(calls) == number:
            return Apply(0, (), (True,) * len(SHAPES))
        return exchange(reports, on_wait)  # type: ignore[arg-type]

    team._exchange = exchanged  # type: ignore[method-assign, assignment]


def test_f15_a_worker_with_another_order_of_rows_is_named_in_that_very_step(crew: Crew) -> None:
    def member(team: MemberTeam) -> object:
        share = share_of(team)
        return team.add_up(replace(share, order=8) if team.rank == 2 else share, lambda: None)

    with pytest.raises(BrokenContract, match="worker 2 has different rows in step 1") as error:
        crew.together(lambda: add_up(crew.root), member)
    assert error.value.cause is Cause.ORDER_DIFFERS


def test_f17_a_straggler_is_told_once(crew: Crew) -> None:
    def member(team: MemberTeam) -> None:
        for step in range(1, 21):
            own_s = 9.0 if team.rank == 2 else 0.5
            team.add_up(replace(share_of(team, step), seconds=own_s), lambda: None)

    def root() -> list[object]:
        found: list[object] = []
        for step in range(1, 21):
            add_up(crew.root, step)
            found += [one.what for one in crew.root.take_findings()]
        return found

    (what,) = crew.together(root, member)  # type: ignore[misc]
    assert what.startswith("worker 2 takes")


def test_a_flipped_bit_in_one_worker_is_found_and_the_worker_named(crew: Crew) -> None:
    with torch.no_grad():
        crew.members[0]._parameters[1].view(torch.int32)[3] ^= 1 << 20
    with pytest.raises(BrokenContract, match="the weights of worker 1 differ") as error:
        crew.together(lambda: add_up(crew.root), add_up)
    assert error.value.cause is Cause.WEIGHTS_DIFFER


def test_weights_are_compared_after_the_last_step_too(crew: Crew) -> None:
    crew.together(lambda: crew.root.compare_weights(9), lambda team: team.compare_weights(9))
    with torch.no_grad():
        crew.members[1]._parameters[0][0] += 1
    with pytest.raises(BrokenContract, match="worker 2"):
        crew.together(lambda: crew.root.compare_weights(9), lambda team: team.compare_weights(9))


@pytest.mark.parametrize("bit", range(32))
def test_any_changed_bit_changes_the_checksum(bit: int) -> None:
    before, changed = weights(), weights()
    with torch.no_grad():
        mask = -(1 << 31) if bit == 31 else 1 << bit
        changed[1].view(torch.int32)[2] ^= mask
    assert checksum(before) == checksum(weights())
    assert checksum(before) != checksum(changed)
