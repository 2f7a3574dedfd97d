"""Workers form a tree and share out the leaves of a step; the tree of sums stays the same."""

import itertools

import pytest

from headway.runs.workers import Node, WorkerTree, nodes_of

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
            assert at in tree.children_of(above)
            levels, at = levels + 1, above
        assert at == 0
        assert levels <= 2
        assert rank in tree.members(tree.group_of(rank))


def test_a_leader_hears_its_group_and_the_root_hears_the_leaders_too() -> None:
    tree = WorkerTree(workers=7, groups=3)
    assert [list(tree.members(group)) for group in range(3)] == [[0, 1, 2], [3, 4], [5, 6]]
    assert tree.children_of(0) == (1, 2, 3, 5)
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


def test_the_share_of_idle_workers() -> None:
    assert WorkerTree(4, 1).idle_share(8) == 0
    assert WorkerTree(3, 1).idle_share(8) == pytest.approx(1 / 9)
    assert WorkerTree(4, 2).idle_share(2) == 0.5
