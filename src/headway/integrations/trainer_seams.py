"""Trainer seams: the Trainer that calls a callback, and a look at what passes through its methods.

A callback is not told which Trainer calls it, what its batches are, what each loss is, or that it
raised. All of that passes through methods of the Trainer, so these are wrapped on that one object
for the length of a run. The wrapped methods do what they did, with the same arguments.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol


@dataclass(frozen=True)
class Calling:
    """The Trainer that is calling, and what its loop was told.

    Attributes:
        trainer: a transformers `Trainer`.
        checkpoint: the folder that it resumes from, "" for none.
    """

    trainer: Any
    checkpoint: str


class Spectator(Protocol):
    """What is reported about the wrapped methods."""

    def waiting(self) -> AbstractContextManager[object]:
        """Batches are being fetched."""
        ...

    def computing(self, inputs: object) -> AbstractContextManager[object]:
        """A micro-batch runs forward and backward."""
        ...

    def batch_done(self, loss: Any) -> None:
        """It has run; `loss` as the Trainer adds it up."""
        ...

    def grad_norm_known(self, norm: Any) -> None:
        """The norm of all gradients before clipping, as the Trainer reports it."""
        ...

    def saving(self) -> AbstractContextManager[object]:
        """A checkpoint is being written."""
        ...

    def evaluating(self) -> AbstractContextManager[object]:
        """An evaluation runs."""
        ...

    def raised(self, error: BaseException) -> None:
        """The loop raised, and with it the run ends; the error propagates to the caller."""
        ...


def find_trainer(frame: FrameType | None) -> Calling | None:
    """The Trainer in whose methods a frame runs; None if it is called by something else."""
    from transformers import Trainer

    checkpoint = ""
    while frame is not None:
        values = frame.f_locals
        checkpoint = checkpoint or values.get("resume_from_checkpoint") or ""
        if isinstance(values.get("self"), Trainer):
            return Calling(values["self"], checkpoint if isinstance(checkpoint, str) else "")
        frame = frame.f_back
    return None


class TrainerSeams:
    """The wrapped methods of one Trainer, until `close`.

    Args:
        trainer: a transformers `Trainer`.
        spectator: who looks on.
    """

    def __init__(self, trainer: Any, spectator: Spectator) -> None:
        self._trainer = trainer
        self._spectator = spectator
        self._before: dict[str, Any] = {}  # what the object itself had under these names
        self._wrap("get_batch_samples", self._fetching)
        self._wrap("training_step", self._stepping)
        self._wrap("_get_grad_norm", self._norming)
        self._wrap("_save_checkpoint", self._within(spectator.saving))
        self._wrap("evaluate", self._within(spectator.evaluating))
        # What raises in one of these is not caught by the Trainer.
        for name in ("_run_epoch", "_evaluate", "_finalize_training"):
            self._wrap(name, self._ending)

    @property
    def names(self) -> frozenset[str]:
        """The methods that this version of the Trainer has."""
        return frozenset(self._before)

    def close(self) -> None:
        """Put the methods back; a second time does nothing."""
        for name, before in self._before.items():
            if before is _ABSENT:
                vars(self._trainer).pop(name, None)
            else:
                setattr(self._trainer, name, before)
        self._before = {}

    def _wrap(self, name: str, around: Callable[..., Any]) -> None:
        method = getattr(self._trainer, name, None)
        if not callable(method):
            return
        self._before[name] = vars(self._trainer).get(name, _ABSENT)

        def wrapped(*args: Any, **named: Any) -> Any:
            return around(method, *args, **named)

        setattr(self._trainer, name, wrapped)

    def _fetching(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        with self._spectator.waiting():
            return method(*args, **named)

    def _stepping(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        inputs = named.get("inputs", args[1] if len(args) > 1 else None)
        with self._spectator.computing(inputs):
            loss = method(*args, **named)
        self._spectator.batch_done(loss)
        return loss

    def _norming(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        norm = method(*args, **named)
        self._spectator.grad_norm_known(norm)
        return norm

    def _ending(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        try:
            return method(*args, **named)
        except BaseException as error:
            self._spectator.raised(error)
            raise

    def _within(self, block: Callable[[], AbstractContextManager[object]]) -> Callable[..., Any]:
        def around(method: Callable[..., Any], *args: Any, **named: Any) -> Any:
            with block():
                return method(*args, **named)

        return around


_ABSENT = object()
