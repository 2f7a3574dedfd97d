"""Choice of the trainer: for a model in shards, or for one that each worker holds whole."""

from collections.abc import Callable
from functools import partial
from typing import Any

from headway.base.errors import Exit
from headway.base.process import Stop
from headway.runs.settled import Settled
from headway.training.distributed.place import TeamPlace
from headway.training.setup import StartState
from headway.training.trainer import Trainer, start_trainer
from headway.training.weights.holding import WHOLE, Holding


def starter(
    settled: Settled, place: TeamPlace, stop: Stop, holding: Holding = WHOLE
) -> Callable[..., tuple[Trainer, StartState]]:
    """What sets the root's part of a job up; see `start_trainer`.

    Args:
        settled: says how the model is held.
        place: of this process among the workers; a single one holds the whole model.
        stop: the stop request, which must not end what all workers do together.
        holding: how a model is held that is not in shards.
    """
    ask = partial(stop.ask, code=Exit.COME_BACK)
    if settled.reduction != "hsdp" or place.links is None:
        return partial(start_trainer, on_stop=ask, holding=holding)
    from headway.training.sharded.sharded_trainer import start_sharded_trainer  # imports FSDP

    start: Any = partial(start_sharded_trainer, on_stop=ask, stay=stop.must_stay)
    return start
