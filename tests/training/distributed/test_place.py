"""A process finds its place from the descriptors that it was started with."""

import os

import pytest
import torch
from tests.training.distributed.sockets import Connect

from headway.base.pulse import Pulse
from headway.runs.workers import Go, WorkerTree
from headway.training.distributed.place import TeamPlace
from headway.training.distributed.team import Alone


def test_a_worker_that_is_alone_needs_nothing() -> None:
    place = TeamPlace.of(Go("run", 1, 0.0), Pulse())
    assert place == TeamPlace()
    assert isinstance(place.lead([], 8, "tree", lambda _: None), Alone)


def test_sockets_and_memory_are_taken_from_their_numbers(connect: Connect, descriptor: int) -> None:
    tree = WorkerTree(3, 1)
    sockets = connect(tree)
    parameters = [torch.nn.Parameter(torch.zeros(3))]
    places = []
    for rank in range(3):
        numbers = {at: os.dup(end.fileno()) for at, end in sockets[rank].items()}
        places.append(
            TeamPlace.of(Go("run", 1, 0.0, 0.0, rank, 3, 1, numbers, descriptor), Pulse())
        )
    root = places[0].lead(parameters, 4, "tree", lambda _: None)
    root.start(b"{}", "")
    assert [place.rank for place in places] == [0, 1, 2]
    for place in places[1:]:
        assert place.links is not None
        start = place.links.hear()
        member = place.join(parameters, 4, "tree", start, lambda: "", pytest.fail)  # type: ignore[arg-type]
        assert member.own(4) == tree.leaves_of(place.rank, 4)
    for place in places:
        assert place.links is not None
        place.links.close()
