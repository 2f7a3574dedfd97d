"""Workers form a tree and share out the leaves of a step; the tree of sums stays the same."""

import itertools

import pytest

from headway.runs.workers import Node, Routed, WorkerTree, nodes_of

TREES = [WorkerTree(w, g) for w in range(1, 10) for g in range(1, w + 1)]


@pytest.mark.parametrize("tree", TREES, ids=str)
def test_every_rank_is_in_one_group_and_reports_to_the_root(tree: WorkerTree) -> None:
    ranks = [rank for group in range(tree.groups) for rank in tree.members(group)]
    assert ranks == list(range(tree.workers))
    sizes = [len(tree.members(group)) for group in range(tree.groups)]
    assert max(sizes) - min(sizes) <= 1
    for rank in ranks:
        levels, at = 0, rank
        while (above := tree.parent_of(at)) is not None:
            assert tree.children_of(above).count(at) == 1
            levels, at = levels + 1, above
        assert at == 0
        assert levels <= 2
        assert rank in tree.members(tree.group_of(rank))


def test_every_rank_but_the_root_is_somebodys_child() -> None:
    for tree in (*TREES, WorkerTree(16_384, 2_048)):
        children = [one for rank in range(tree.workers) for one in tree.children_of(rank)]
        assert sorted(children) == list(range(1, tree.workers))


def test_a_leader_hears_its_group_and_the_root_hears_the_leaders_too() -> None:
    tree = WorkerTree(workers=7, groups=3)
    assert [list(tree.members(group)) for group in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert tree.children_of(0) == (3, 5, 1, 2)  # who passes a message on hears it first
    assert tree.children_of(3) == (4,)
    assert tree.children_of(4) == ()
    assert tree.parent_of(6) == 5


@pytest.mark.parametrize("tree", TREES, ids=str)
@pytest.mark.parametrize("num_leaves", [1, 2, 4, 8, 16])
def test_the_leaves_of_all_ranks_are_those_of_the_step(tree: WorkerTree, num_leaves: int) -> None:
    shares = [tree.leaves_of(rank, num_leaves) for rank in range(tree.workers)]
    assert list(itertools.chain(*shares)) == list(range(num_leaves))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("begin", range(9))
@pytest.mark.parametrize("end", range(9))
def test_nodes_cover_leaves_with_as_few_sums_as_the_tree_allows(begin: int, end: int) -> None:
    nodes = nodes_of(range(begin, end))
    assert list(itertools.chain(*(node.leaves for node in nodes))) == list(range(begin, end))
    for left, right in itertools.pairwise(nodes):  # no two of them are halves of one node
        assert left.height != right.height or Node(left.height + 1, left.index // 2).halves != (
            left,
            right,
        )


def test_a_power_of_two_is_one_sum() -> None:
    assert nodes_of(range(8)) == (Node(3, 0),)
    assert nodes_of(range(2, 5)) == (Node(1, 1), Node(0, 4))
    assert nodes_of(range(3, 3)) == ()


@pytest.mark.parametrize(
    ("workers", "leaves", "spare"),
    [
        (4, [1.0] * 8, 0),
        (3, [1.0] * 8, 1 / 9),
        (4, [1.0] * 2, 1 / 2),
        (2, [3.0, 1.0, 1.0, 1.0], 1 / 4),
        (1, [3.0, 1.0], 0),
    ],
)
def test_workers_are_idle_until_the_busiest_has_done_its_leaves(
    workers: int, leaves: list[float], spare: float
) -> None:
    tree = WorkerTree(workers)
    routed = Routed().add(tree.costs(leaves)).add(tree.costs(leaves))
    assert routed.spare == pytest.approx(spare)
    assert sum(map(routed.share_of, range(workers))) == pytest.approx(1)
    assert sum(map(routed.spare_of, range(workers))) == pytest.approx(workers * spare)
    assert min(map(routed.spare_of, range(workers))) == 0


def test_steps_that_are_uneven_in_turns_do_not_even_each_other_out() -> None:
    routed = Routed().add((3.0, 1.0)).add((1.0, 3.0))
    assert [routed.share_of(rank) for rank in range(2)] == [0.5, 0.5]
    assert routed.spare == pytest.approx(1 / 3)


def test_before_a_step_nothing_was_shared_out() -> None:
    assert (Routed().share_of(0), Routed().spare_of(0), Routed().spare) == (0, 0, 0)
