"""Training flags of turns: every tool's way to say that an answer is context only."""

import functools
import re
from typing import Any

from headway.data.formats.fields.values import as_flag, is_missing, shorten
from headway.data.formats.records import RejectReason, UnfitError

# Names as compared: lower case, without anything but letters.
_TRAINED_IF_TRUE = frozenset(
    (
        *("train", "training", "trainable", "trained", "istrainable", "istrained", "totrain"),
        *("dotrain", "shouldtrain", "trainon", "trainonthis", "trainonturn", "trainweight"),
        *("loss", "lossmask", "lossweight", "lossscale", "useloss", "computeloss", "withloss"),
        *("calculateloss", "calcloss", "hasloss", "includeinloss", "inloss", "outputwithloss"),
        *("weight", "sampleweight", "learn", "learnable", "tolearn", "supervised"),
    )
)
_TRAINED_IF_FALSE = frozenset(
    (
        *("masked", "ismasked", "maskloss", "lossmasked", "noloss", "ignoreloss", "skiploss"),
        *("excludefromloss", "contextonly", "untrained", "notrain", "donttrain", "donottrain"),
        *("skiptrain", "skiptraining", "ignoreintraining", "notrainable", "untrainable"),
    )
)
_FLAGS = _TRAINED_IF_TRUE | _TRAINED_IF_FALSE
_ABOUT_TRAINING = re.compile(r"train|loss|mask|weight|learn|supervis")
_DETAILED = frozenset(("traindetail", "trainingdetail", "lossmaskdetail"))


@functools.lru_cache(1024)
def flag_names(*names: str) -> tuple[str, ...]:
    """Those names that say, or may say, whether a turn is trained."""
    return tuple(name for name in names if _is_flag(name) or _ABOUT_TRAINING.search(_letters(name)))


def with_one_flag(turn: dict[str, Any]) -> dict[str, Any]:
    """A turn whose flags, if it has any, are replaced by a single one: `train`, true or false.

    Raises:
        UnfitError: a flag is neither yes nor no, or two of them contradict each other.
    """
    names = flag_names(*turn)
    if not names:
        return turn
    said = _read_flags(turn, names)
    if len(said) > 1 and len(set(said.values())) > 1:
        found = ", ".join(f"{name}: {shorten(turn[name])}" for name in said)
        raise UnfitError(RejectReason.FLAGS_CONTRADICT, found)
    one = dict(turn)
    for name in names:
        if _is_flag(name):
            del one[name]
    if said:
        one["train"] = next(iter(said.values()))
    return one


def trained_if(name: str, flag: bool) -> bool:
    """Whether a flag of this name and value says that something is trained."""
    return flag is (_letters(name) in _TRAINED_IF_TRUE)


def _read_flags(turn: dict[str, Any], names: tuple[str, ...]) -> dict[str, bool]:
    """Whether the turn is trained, according to each flag that says so."""
    said: dict[str, bool] = {}
    for name in names:
        value = turn[name]
        if is_missing(value):
            continue
        flag = as_flag(value)
        if not _is_flag(name):
            if flag is not None or _letters(name) in _DETAILED:
                found = f"{name}: {shorten(value)}, instead of train, true or false"
                raise UnfitError(RejectReason.FLAG_UNKNOWN, found)
        elif flag is None:
            raise UnfitError(RejectReason.FLAG_UNCLEAR, f"{name}: {shorten(value)}")
        else:
            said[name] = trained_if(name, flag)
    return said


@functools.lru_cache(1024)
def _is_flag(name: str) -> bool:
    return _letters(name) in _FLAGS


@functools.lru_cache(1024)
def _letters(name: str) -> str:
    return "".join(filter(str.isalpha, name.lower()))
