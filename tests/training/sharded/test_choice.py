"""Shards are for several workers; a single one holds the whole model."""

from functools import partial
from pathlib import Path
from typing import Any

from tests.training.jobs import planned

from headway.base.errors import Exit
from headway.base.process import Stop
from headway.runs.settled import Settled
from headway.training.distributed.place import ONLY_WORKER, TeamPlace
from headway.training.sharded.choice import starter
from headway.training.sharded.sharded_trainer import start_sharded_trainer
from headway.training.trainer import start_trainer

LINKED: Any = TeamPlace(links=object())  # pyright: ignore[reportArgumentType]


def test_a_model_is_in_shards_only_where_there_are_others_to_hold_the_rest(here: Path) -> None:
    settled = Settled.from_plan(planned(here, nproc=2, reduction="hsdp"))
    assert chosen(settled, LINKED) is start_sharded_trainer
    assert chosen(settled, ONLY_WORKER) is start_trainer
    assert chosen(Settled.from_plan(planned(here, nproc=2)), LINKED) is start_trainer


def chosen(settled: Settled, place: TeamPlace) -> Any:
    start: Any = starter(settled, place, Stop())
    return start.func


def test_a_stop_of_another_worker_is_the_runs(here: Path) -> None:
    stop = Stop()
    start: Any = starter(Settled.from_plan(planned(here)), ONLY_WORKER, stop)
    assert isinstance(start, partial)
    start.keywords["on_stop"]("SIGTERM")
    assert (stop.by, stop.code) == ("SIGTERM", Exit.COME_BACK)
