"""Process groups of several ranks within one test, each in a process of its own."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from tests.training.distributed.sums_of_leaves import SHAPES, added, bits

from headway.base.process import ChildProcess
from headway.base.pulse import Pulse
from headway.runs.workers import WorkerTree, nodes_of
from headway.training.distributed.all_reduced_sums import AllReducedSums
from headway.training.distributed.pairwise_sums import PairwiseSums
from headway.training.distributed.process_group import ProcessGroup
from headway.training.worker import exit_within

LEAVES = 8
ROOT = Path(__file__).parents[3]


def run_ranks(folder: Path, tree: WorkerTree, what: str) -> list[object]:
    """What each rank found out.

    Args:
        folder: empty.
        tree: of the ranks.
        what: a name in `PARTS`.
    """
    children = [
        ChildProcess(
            "tests.training.distributed.gloo",
            [str(folder), str(tree.workers), str(tree.groups), str(rank), what],
            environment={**os.environ, "PYTHONPATH": str(ROOT)},
            log=folder / f"{rank}.err",
            log_stdout=True,
        )
        for rank in range(tree.workers)
    ]
    try:
        codes = [child.wait() for child in children]
        assert codes == [0] * tree.workers, [child.last_words() for child in children]
    finally:
        for child in children:
            child.end()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(tree.workers)]


def _hexadecimal(gradients: list[torch.Tensor | None]) -> list[str | None]:
    return [None if one is None else one.hex() for one in bits(gradients)]


def _pairwise(group: ProcessGroup, tree: WorkerTree) -> object:
    """The bits of the sums of two steps, the second with fewer leaves."""
    sums, found = PairwiseSums(tree, group, SHAPES, "cpu"), []
    for num_leaves in (LEAVES, LEAVES, 2):
        nodes = nodes_of(tree.leaves_of(group.rank, num_leaves))
        sums.write({node: added(node.leaves) for node in nodes}, num_leaves)
        sums.add(num_leaves, lambda: None)
        found.append(_hexadecimal(sums.read([True, True, False, True])))
    return found


def _all_reduced(group: ProcessGroup, tree: WorkerTree) -> object:
    """The sums of a step as numbers."""
    sums = AllReducedSums(group, SHAPES, "cpu")
    nodes = nodes_of(tree.leaves_of(group.rank, LEAVES))
    sums.write({node: added(node.leaves) for node in nodes}, LEAVES)
    sums.add(LEAVES, lambda: None)
    read = sums.read([True, True, False, True])
    return [None if one is None else one.flatten().tolist() for one in read]


PARTS: dict[str, Callable[[ProcessGroup, WorkerTree], object]] = {
    "pairwise": _pairwise,
    "all-reduced": _all_reduced,
}


def main(folder: Path, tree: WorkerTree, rank: int, what: str) -> None:
    """One rank."""
    torch.set_num_threads(1)
    group = ProcessGroup.in_file(folder / "meeting", tree, rank, "cpu", Pulse())
    found = PARTS[what](group, tree)
    (folder / f"{rank}.json").write_text(json.dumps(found))
    exit_within(0)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        WorkerTree(int(sys.argv[2]), int(sys.argv[3])),
        int(sys.argv[4]),
        sys.argv[5],
    )
