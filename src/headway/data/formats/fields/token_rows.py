"""Token rows: ids made elsewhere, with the masks and labels that say which are trained."""

from typing import Any

from headway.data.formats.fields.values import from_json, is_list, is_missing, shorten
from headway.data.formats.records import Record, RejectReason, UnfitError

UNTRAINED = -100  # the label of a token that is not trained
PADDING_CUT = "padding tokens cut"
# 1: the token is trained.
_MASKS = (
    *("completion_mask", "assistant_masks", "assistant_mask", "assistant_tokens_mask"),
    *("loss_mask", "loss_masks", "labels_mask", "label_mask", "target_mask", "train_mask"),
    *("loss_weights", "weights", "response_mask"),
)
_INVERTED_MASKS = ("prompt_mask", "ignore_mask")  # 1: the token is not trained
_AMBIGUOUS_MASKS = ("mask", "masks")
# A number per token that is the same for all tokens of one sequence.
_SEQUENCE_NUMBERS = (*("token_type_ids", "segment_ids", "document_ids", "sequence_ids", "seq_idx"),)
_SEQUENCE_LENGTHS = ("seq_lengths", "seqlens", "seq_lens", "cu_seqlens", "cu_seq_lens")
_LENGTHS = ("length", "num_tokens", "seq_len")
TOKEN_KEYS = (
    *("labels", "attention_mask", "position_ids", "special_tokens_mask"),
    *(*_MASKS, *_INVERTED_MASKS, *_AMBIGUOUS_MASKS),
    *(*_SEQUENCE_NUMBERS, *_SEQUENCE_LENGTHS, *_LENGTHS),
)


def tokens(file: str, line: int, fields: dict[str, Any]) -> Record:
    """A record of token ids, without padding.

    Raises:
        UnfitError: the ids, masks and labels do not belong together, or nothing is trained.
    """
    ids = from_json(fields["input_ids"])
    if not _are_ids(ids, 0):
        raise UnfitError(RejectReason.IDS_NOT_A_LIST, shorten(ids))
    given = {name: from_json(fields[name]) for name in TOKEN_KEYS if name in fields}
    given = {name: value for name, value in given.items() if not is_missing(value)}
    begin, end = _real(given, len(ids))
    labels = _labels(given, ids, begin, end)
    _check_one_sequence(given, len(ids), begin, end)
    cut = len(ids) - (end - begin)
    ids = tuple(ids[begin:end])
    if len(ids) < 2:
        raise UnfitError(RejectReason.NO_LEARNED_LABEL, f"{len(ids)} ids")
    if labels and all(label == UNTRAINED for label in labels[1:]):
        raise UnfitError(RejectReason.NO_LEARNED_LABEL, "no token after the first is trained")
    notes = ((PADDING_CUT, cut),) if cut else ()
    return Record(file, line, ids=ids, labels=labels, shape="tokens", notes=notes)


def _real(given: dict[str, Any], num: int) -> tuple[int, int]:
    """Where the tokens other than padding begin and end."""
    if "attention_mask" not in given:
        return 0, num
    mask = _mask(given, "attention_mask", num)
    if 1 not in mask:
        return 0, 0
    begin, end = mask.index(1), num - mask[::-1].index(1)
    if 0 in mask[begin:end]:
        at = mask.index(0, begin)
        raise UnfitError(RejectReason.MASKED_IN_THE_MIDDLE, f"attention_mask is 0 at {at}")
    return begin, end


def _labels(given: dict[str, Any], ids: list[int], begin: int, end: int) -> tuple[int, ...] | None:
    """The ids of trained tokens, -100 for all others; None if all are trained."""
    num = len(ids)
    for name in _AMBIGUOUS_MASKS:
        if _is_per_token(given.get(name)):
            raise UnfitError(RejectReason.FLAG_UNKNOWN, f"{name}, instead of loss_mask or labels")
    masks = [_mask(given, name, num) for name in _MASKS if name in given]
    inverted = [_mask(given, name, num) for name in _INVERTED_MASKS if name in given]
    masks += [[1 - one for one in mask] for mask in inverted]
    labels = given.get("labels")
    if labels is None:
        if not masks:
            return None
        labels = ids
    elif not _are_ids(labels, UNTRAINED) or len(labels) != num:
        raise UnfitError(RejectReason.LABELS_DO_NOT_MATCH, f"{shorten(labels)} for {shorten(ids)}")
    real = zip(ids[begin:end], labels[begin:end], strict=True)
    if any(label not in (UNTRAINED, token) for token, label in real):
        raise UnfitError(
            RejectReason.LABELS_DO_NOT_MATCH, "a label is neither -100 nor its token id"
        )
    for mask in masks:
        pairs = zip(labels, mask, strict=True)
        labels = [label if is_trained else UNTRAINED for label, is_trained in pairs]
    return tuple(labels[begin:end])


def _mask(given: dict[str, Any], name: str, num: int) -> list[int]:
    mask = given[name]
    if not _is_per_token(mask) or len(mask) != num:
        found = f"{shorten(mask)} for {num} ids"
        raise UnfitError(RejectReason.MASK_DOES_NOT_MATCH, f"{name}: {found}")
    if any(one not in (0, 1) for one in mask):
        if name == "attention_mask" and all(type(one) is int and one >= 0 for one in mask):
            raise UnfitError(RejectReason.SEVERAL_SEQUENCES, f"{name}: {shorten(mask)}")
        raise UnfitError(RejectReason.MASK_DOES_NOT_MATCH, f"{name}: {shorten(mask)} is not 0 or 1")
    return [int(one) for one in mask]


def _check_one_sequence(given: dict[str, Any], num: int, begin: int, end: int) -> None:
    """Refuse rows that were packed from several sequences, or that have another length."""
    for name in _SEQUENCE_NUMBERS:
        numbers = _per_token(given, name, num)[begin:end]
        if len(set(numbers)) > 1:
            raise UnfitError(RejectReason.SEVERAL_SEQUENCES, f"{name}: {shorten(numbers)}")
    positions = _per_token(given, "position_ids", num)[begin:end]
    if positions and positions != list(range(end - begin)):
        is_ascending = positions == sorted(set(positions))
        reason = RejectReason.POSITIONS if is_ascending else RejectReason.SEVERAL_SEQUENCES
        raise UnfitError(reason, f"position_ids: {shorten(positions)}")
    _per_token(given, "special_tokens_mask", num)  # says nothing about training
    for name in _SEQUENCE_LENGTHS:
        lengths = given.get(name, [])
        if not is_list(lengths) or len([one for one in lengths if one != 0]) > 1:
            raise UnfitError(RejectReason.SEVERAL_SEQUENCES, f"{name}: {shorten(lengths)}")
    for name in _LENGTHS:
        length = given.get(name, num)
        length = length[0] if is_list(length) and len(length) == 1 else length
        if length not in (num, end - begin):
            found = f"{name}: {shorten(length)} for {num} ids"
            raise UnfitError(RejectReason.MASK_DOES_NOT_MATCH, found)


def _per_token(given: dict[str, Any], name: str, num: int) -> list[int]:
    """A number for each token; empty if the field is not given."""
    if name not in given:
        return []
    numbers = given[name]
    if not _are_ids(numbers, 0) or len(numbers) != num:
        raise UnfitError(
            RejectReason.MASK_DOES_NOT_MATCH, f"{name}: {shorten(numbers)} for {num} ids"
        )
    return numbers


def _are_ids(values: object, least: int) -> bool:
    return is_list(values) and all(type(one) is int and one >= least for one in values)


def _is_per_token(value: object) -> bool:
    return is_list(value) and all(isinstance(one, bool | int | float) for one in value)
