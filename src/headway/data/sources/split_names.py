"""Names of splits: which of several parts of a data set is for training."""

from collections.abc import Sequence

_TRAINING = ("train", "training")
_HELD_OUT = (
    *("test", "testing", "validation", "valid", "val", "dev", "eval", "evaluation", "heldout"),
)


def choose_split(names: Sequence[str]) -> int | None:
    """Which of some parts to train on: the only one, or the one beside held-out ones; else None."""
    if len(names) == 1:
        return 0
    plain = [name.lower().replace("_", "").replace("-", "") for name in names]
    training = [at for at, name in enumerate(plain) if name in _TRAINING]
    others = [name for name in plain if name not in _TRAINING]
    if len(training) == 1 and all(name in _HELD_OUT for name in others):
        return training[0]
    return None
