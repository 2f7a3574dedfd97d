"""Token rows are trained as their masks and labels say, without padding."""

import json
from typing import Any

import pytest

from headway.data.formats.fields.token_rows import PADDING_CUT, TOKEN_KEYS, tokens
from headway.data.formats.json import record_of
from headway.data.formats.records import Record, RejectReason, UnfitError

IDS = [5, 6, 7, 8, 9]
MASKS = ("completion_mask", "assistant_masks", "assistant_mask", "loss_mask", "loss_weights")


def read(**fields: Any) -> Record:
    return tokens("f", 1, fields)


def reason(**fields: Any) -> RejectReason:
    with pytest.raises(UnfitError) as caught:
        read(**fields)
    return caught.value.reason


@pytest.mark.parametrize(
    ("ids", "mask", "real"),
    [
        ([5, 6, 7, 8, 0, 0], [1, 1, 1, 1, 0, 0], (0, 4)),
        ([0, 0, 5, 6, 7, 8], [0, 0, 1, 1, 1, 1], (2, 6)),
        ([0, 5, 6, 7, 8, 0], [0, 1, 1, 1, 1, 0], (1, 5)),
        ([5, 6, 7, 8], [1, 1, 1, 1], (0, 4)),
    ],
)
@pytest.mark.parametrize("kind", [int, bool, float])
def test_padding_is_cut_on_either_side_and_counted(
    ids: list[int], mask: list[int], real: tuple[int, int], kind: type
) -> None:
    record = read(input_ids=ids, attention_mask=[kind(one) for one in mask])
    assert (record.ids, record.labels) == ((5, 6, 7, 8), None)
    cut = len(ids) - 4
    assert record.notes == (((PADDING_CUT, cut),) if cut else ())
    labels = read(input_ids=ids, attention_mask=mask, labels=ids)
    assert (labels.ids, labels.labels) == ((5, 6, 7, 8), (5, 6, 7, 8))
    nothing = [-100 if not one else token for token, one in zip(ids, mask, strict=True)]
    assert read(input_ids=ids, attention_mask=mask, labels=nothing).labels == (5, 6, 7, 8)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", [int, bool, float])
def test_a_mask_says_what_is_trained(name: str, kind: type) -> None:
    mask = [kind(one) for one in (0, 0, 0, 1, 1)]
    record = read(input_ids=IDS, **{name: mask})
    assert record.labels == (-100, -100, -100, 8, 9)


def test_a_prompt_mask_says_what_is_not() -> None:
    assert read(input_ids=IDS, prompt_mask=[1, 1, 1, 0, 0]).labels == (-100, -100, -100, 8, 9)


@pytest.mark.parametrize("name", MASKS)
def test_only_what_every_mask_and_the_labels_train_is_trained(name: str) -> None:
    record = read(
        input_ids=[0, *IDS],
        attention_mask=[0, 1, 1, 1, 1, 1],
        labels=[-100, -100, 6, 7, 8, -100],
        prompt_mask=[1, 1, 1, 0, 0, 0],
        **{name: [1, 1, 1, 1, 1, 1]},
    )
    assert record.ids == tuple(IDS)
    assert record.labels == (-100, -100, 7, 8, -100)
    other = read(input_ids=IDS, labels=IDS, **{name: [0, 1, 0, 1, 0]})
    assert other.labels == (-100, 6, -100, 8, -100)


@pytest.mark.parametrize("name", ["attention_mask", "labels", *MASKS, "prompt_mask"])
def test_a_mask_without_a_value_says_nothing(name: str) -> None:
    assert read(input_ids=IDS, **{name: None}).labels is None


@pytest.mark.parametrize(
    "positions", [[0, 1, 2, 3, 4], (1, 1, 0, 1, 2)], ids=["from 0", "padded on the left"]
)
def test_positions_that_count_from_0_are_as_they_should_be(positions: Any) -> None:
    mask = [
        int(one) for one in (positions[0] == 0, positions[1] == 1 and positions[0] == 0, 1, 1, 1)
    ]
    record = read(input_ids=IDS, attention_mask=mask, position_ids=list(positions))
    assert record.ids == tuple(IDS[mask.index(1) :])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"attention_mask": [1, 0, 1, 1, 1]}, RejectReason.MASKED_IN_THE_MIDDLE),
        ({"attention_mask": [0, 0, 0, 0, 0]}, RejectReason.NO_LEARNED_LABEL),
        ({"attention_mask": [0, 0, 0, 0, 1]}, RejectReason.NO_LEARNED_LABEL),
        ({"attention_mask": [1, 1, 2, 2, 2]}, RejectReason.SEVERAL_SEQUENCES),
        ({"attention_mask": [1, 1, 1, 1]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"attention_mask": "11111"}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"attention_mask": [1, 1, 1, 1, 0.5]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"attention_mask": [1, 1, 1, 1, -1]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"attention_mask": [[1, 1, 1, 1, 1]]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"completion_mask": [0, 1]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"assistant_masks": [0, 0, 0, 2, 1]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"loss_mask": [0, 0, 0, 0.5, 1]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"loss_mask": 1}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"loss_mask": [1, 0, 0, 0, 0]}, RejectReason.NO_LEARNED_LABEL),
        ({"completion_mask": [0, 0, 0, 1, 1], "labels": [5, 6, 7, -100, -100]},
         RejectReason.NO_LEARNED_LABEL),
        ({"mask": [0, 0, 0, 1, 1]}, RejectReason.FLAG_UNKNOWN),
        ({"position_ids": [0, 1, 2, 0, 1]}, RejectReason.SEVERAL_SEQUENCES),
        ({"position_ids": [1, 2, 3, 4, 5]}, RejectReason.POSITIONS),
        ({"position_ids": [0, 1, 2]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"token_type_ids": [0, 0, 0, 1, 1]}, RejectReason.SEVERAL_SEQUENCES),
        ({"token_type_ids": [0]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"segment_ids": [1, 1, 1, 2, 2]}, RejectReason.SEVERAL_SEQUENCES),
        ({"seq_lengths": [3, 2]}, RejectReason.SEVERAL_SEQUENCES),
        ({"cu_seqlens": [0, 3, 5]}, RejectReason.SEVERAL_SEQUENCES),
        ({"special_tokens_mask": [1]}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"length": 9}, RejectReason.MASK_DOES_NOT_MATCH),
        ({"labels": [1, 2, 3, 4, 5]}, RejectReason.LABELS_DO_NOT_MATCH),
        ({"labels": 1}, RejectReason.LABELS_DO_NOT_MATCH),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_reason(
    fields: dict[str, Any], expected: RejectReason
) -> None:
    assert reason(input_ids=IDS, **fields) is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"token_type_ids": [0] * 5},
        {"token_type_ids": [1] * 5},
        {"segment_ids": [3] * 5},
        {"special_tokens_mask": [1, 0, 0, 0, 1]},
        {"seq_lengths": [5]},
        {"cu_seqlens": [0, 5]},
        {"length": 5},
        {"length": [5]},
        {"num_tokens": 5},
    ],
)
def test_what_changes_nothing_is_read_and_changes_nothing(fields: dict[str, Any]) -> None:
    assert read(input_ids=IDS, **fields) == Record("f", 1, ids=tuple(IDS))
    assert set(fields) <= set(TOKEN_KEYS)


def test_the_length_of_a_padded_row_is_with_or_without_padding() -> None:
    padded = {"input_ids": [*IDS, 0], "attention_mask": [1, 1, 1, 1, 1, 0]}
    assert read(**padded, length=5).ids == read(**padded, length=6).ids == tuple(IDS)


def test_a_number_per_token_matters_only_without_padding() -> None:
    padded = {"input_ids": [*IDS, 0], "attention_mask": [1, 1, 1, 1, 1, 0]}
    assert read(**padded, token_type_ids=[1, 1, 1, 1, 1, 0]).ids == tuple(IDS)


def test_lists_may_be_json_text_as_in_csv() -> None:
    record = read(input_ids="[5, 6, 7]", completion_mask="[0, 0, 1]")
    assert (record.ids, record.labels) == ((5, 6, 7), (-100, -100, 7))


@pytest.mark.parametrize("name", TOKEN_KEYS)
def test_no_known_field_of_a_token_row_counts_as_unread(name: str) -> None:
    row = {"input_ids": IDS, name: None}
    record = record_of("f", 1, json.dumps(row).encode())
    assert isinstance(record, Record)
    assert record.unread == ()
