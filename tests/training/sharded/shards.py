"""Jobs whose model is in shards, done by forked workers."""

import contextlib
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.helpers import run
from tests.ranks import in_ranks
from torch import Tensor

from headway.base.errors import Refusal
from headway.base.events import Event, StepDone, read_events
from headway.base.process import Stop
from headway.base.pulse import Pulse
from headway.model.safetensors_index import weight_files
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Receipt, load_receipt
from headway.runs.settled import Settled
from headway.runs.workers import WorkerTree
from headway.training.distributed.place import TeamPlace
from headway.training.member import run_member
from headway.training.phases import Phases


class Shards:
    """A run that workers with shards did."""

    def __init__(self, folder: Path) -> None:
        self.folder = RunFolder(folder)

    @property
    def receipt(self) -> Receipt:
        return load_receipt(self.folder.path)

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of one kind."""
        events = [entry.event for entry in read_events(self.folder.events)]
        return [event for event in events if isinstance(event, kind)]

    @property
    def steps(self) -> list[StepDone]:
        return self.of(StepDone)

    @property
    def weights(self) -> dict[str, Tensor]:
        return weights_of(self.folder)


def weights_of(folder: RunFolder) -> dict[str, Tensor]:
    """The weights of the newest checkpoint that verifies."""
    newest, problems = folder.newest_verified()
    assert newest is not None, problems
    files = weight_files(newest.path)
    return {name: t for file in files for name, t in load_file(file).items()}


def run_shards(
    folder: Path,
    plan: Plan,
    tree: WorkerTree,
    *,
    stops: dict[int, str] | None = None,
    fails: Container[int] = (),
    **given: Any,
) -> Shards:
    """Do a job with workers that hold the model in shards.

    Args:
        folder: of the run.
        plan: of the run.
        tree: of the workers.
        stops: who asked a rank to stop, before it starts.
        fails: ranks that end with a refusal.
        given: for `run`.
    """
    folder.mkdir(exist_ok=True)
    if not (folder / "plan.json").exists():
        plan.save(folder)
    settled = Settled.from_plan(plan)
    if not (folder / "settled.json").exists():
        settled.save(folder)

    def work(place: TeamPlace, pulse: Pulse) -> None:
        if place.rank == 0:
            run(folder, plan, place=place, **given)
            return
        stop = Stop()
        stop.by = (stops or {}).get(place.rank, "")
        expected = pytest.raises(Refusal) if place.rank in fails else contextlib.nullcontext()
        with expected:
            run_member(folder, place, Phases(pulse, None), stop)

    in_ranks(tree, folder.parent / f"{folder.name}-meeting-{given.get('attempt', 1)}", work)
    return Shards(folder)


def assert_same(shards: dict[str, Tensor], whole: dict[str, Tensor], tolerance: float) -> None:
    """That weights are the same but for rounding."""
    assert shards.keys() == whole.keys()
    for name, weight in whole.items():
        differs = float((shards[name] - weight).norm() / weight.norm().clamp_min(1e-12))
        assert differs <= tolerance, (name, differs)
