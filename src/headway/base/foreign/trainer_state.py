"""trainer_state.json of transformers: the step a Trainer reached, and what it logged."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from headway.base.files import regular_file

NAME = "trainer_state.json"
_MAX_BYTES = 32 << 20


@dataclass(frozen=True)
class StateEntry:
    """An entry of `log_history` about training; None for what it does not hold."""

    step: int
    epoch: float | None = None
    loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


@dataclass(frozen=True)
class TrainerState:
    """A state that a Trainer saved.

    Attributes:
        path: of the file.
        global_step: steps done.
        max_steps: its target.
        num_train_epochs: as the run that saved it had them.
        epoch: done, a fraction.
        batch_size: of one device, 0 if it does not tell.
        entries: what was logged about training, oldest first.
        has_early_stopping: whether it had a callback that may end it before its target.
        ended_without_steps: whether the last training in its log took no step.
        train_loss: the mean loss that the last training ended with; None if it does not tell.
    """

    path: Path
    global_step: int
    max_steps: int
    num_train_epochs: int
    epoch: float
    batch_size: int = 0
    entries: tuple[StateEntry, ...] = ()
    has_early_stopping: bool = False
    ended_without_steps: bool = False
    train_loss: float | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over its data; 0 if it does not tell."""
        return round(self.global_step / self.epoch) if self.epoch > 0 else 0

    def goes_on_from(self, earlier: "TrainerState") -> bool:
        """Whether its log begins with the log of an earlier state."""
        return (
            self.global_step >= earlier.global_step
            and _key(self.entries[: len(earlier.entries)]) == _key(earlier.entries)
            and len(earlier.entries) > 0
        )


def read_state(path: Path) -> TrainerState:
    """Read a state.

    Raises:
        OSError: it is a link, cannot be read, or is longer than any.
        ValueError: it is not one.
    """
    if regular_file(path).stat().st_size > _MAX_BYTES:
        raise ValueError("it is too long")
    try:
        state = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(state, dict) or "global_step" not in state:
        raise ValueError("it has no global_step")
    values = cast("dict[str, object]", state)
    found = values.get("log_history")
    history = cast("list[object]", found) if isinstance(found, list) else []
    return TrainerState(
        path=path,
        global_step=_whole(values.get("global_step")),
        max_steps=_whole(values.get("max_steps")),
        num_train_epochs=_whole(values.get("num_train_epochs")),
        epoch=_number(values.get("epoch")) or 0.0,
        batch_size=_whole(values.get("train_batch_size")),
        entries=tuple(_entries(history)),
        has_early_stopping="EarlyStoppingCallback"
        in str(values.get("stateful_callbacks"))[:10_000],
        ended_without_steps=_ended_without_steps(history),
        train_loss=_train_loss(history),
    )


def _entries(history: list[object]) -> list[StateEntry]:
    entries: list[StateEntry] = []
    for one in history:
        if not isinstance(one, dict):
            continue
        values = cast("dict[str, object]", one)
        if "loss" in values or "learning_rate" in values:
            entries.append(
                StateEntry(
                    _whole(values.get("step")),
                    *(
                        _number(values.get(k))
                        for k in ("epoch", "loss", "learning_rate", "grad_norm")
                    ),
                )
            )
    return entries


def _ended_without_steps(history: list[object]) -> bool:
    closing = [one for one in history[-5:] if isinstance(one, dict) and "train_runtime" in one]
    if not closing:
        return False
    values = cast("dict[str, object]", closing[-1])
    return _number(values.get("train_steps_per_second")) == 0 == _number(values.get("train_loss"))


def _train_loss(history: list[object]) -> float | None:
    for one in reversed(history[-5:]):
        if isinstance(one, dict) and "train_loss" in one:
            return _number(cast("dict[str, object]", one)["train_loss"])
    return None


def _key(entries: tuple[StateEntry, ...]) -> list[str]:
    """Entries for comparing: a NaN equals itself here."""
    return [repr(entry) for entry in entries]


def _whole(value: object) -> int:
    number = _number(value)
    return int(number) if number is not None and math.isfinite(number) else 0


def _number(value: object) -> float | None:
    """A number from JSON; some versions write them as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None
