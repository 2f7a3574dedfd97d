"""Flags of whole rows: not to be trained at all, or trained in another way than asked for."""

from typing import Any

from headway.data.formats.fields.turn_flags import trained_if
from headway.data.formats.fields.values import as_flag, has_nan, is_missing, shorten
from headway.data.formats.records import RejectReason, UnfitError

# Says of a row whether it is trained.
ROW_FLAGS = (
    *("train", "trainable", "training", "is_trainable", "to_train", "do_train", "should_train"),
    *("loss", "loss_mask", "weight", "sample_weight", "masked", "is_masked", "skip_training"),
)
PROMPT_FLAGS = (
    *("train_on_input", "train_on_inputs", "train_on_prompt", "train_on_source"),
    *("assistant_only_loss", "completion_only_loss", "mask_prompt", "mask", "unmask"),
)
_ONLY_ANSWERS_IF_TRUE = ("assistant_only_loss", "completion_only_loss", "mask_prompt")
_USERS = ("user", "human", "prompt", "input")


def check_row_flags(fields: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Check what a row says about its training as a whole.

    Args:
        fields: of the row.
        names: of the fields that may say it.

    Returns:
        Those fields whose values say nothing of the kind.

    Raises:
        UnfitError: the row is not to be trained, or in another way.
    """
    unread: list[str] = []
    said: dict[str, bool] = {}
    for name in names:
        value = fields[name]
        if is_missing(value):
            continue
        if has_nan(value):
            raise UnfitError(RejectReason.NAN, name)
        if name in PROMPT_FLAGS:
            _check_prompt_flag(name, value)
            continue
        flag = as_flag(value)
        if flag is None:  # a loss that was measured, or a weight in kilograms
            unread.append(name)
        else:
            said[name] = trained_if(name, flag)
    if len(set(said.values())) > 1:
        found = ", ".join(f"{name}: {shorten(fields[name])}" for name in said)
        raise UnfitError(RejectReason.FLAGS_CONTRADICT, found)
    if False in said.values():
        name = next(iter(said))
        raise UnfitError(RejectReason.ROW_UNTRAINED, f"{name}: {shorten(fields[name])}")
    return tuple(unread)


def _check_prompt_flag(name: str, value: object) -> None:
    """Accept what is done anyway: only answers are trained."""
    flag = as_flag(value)
    if name == "mask" and flag is None:
        flag = isinstance(value, str) and value.strip().lower() in _USERS
        only_answers = flag
    elif name == "mask":
        only_answers = False
    else:
        only_answers = flag is (name in _ONLY_ANSWERS_IF_TRUE)
    if not only_answers:
        raise UnfitError(RejectReason.FLAG_UNKNOWN, f"{name}: {shorten(value)}")
