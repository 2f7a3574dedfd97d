"""Records compare by content, and a file without records is skipped or rejected."""

from dataclasses import replace
from typing import Any

import pytest

from headway.data.formats.records import (
    Record,
    Rejected,
    RejectReason,
    Skipped,
    UnfitError,
    content_key,
    unusable_file,
)
from headway.data.formats.row_formats import record_of_fields
from headway.data.sources.source import Source

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ({"text": "a"}, {"text": "a", "id": 3}, True),
        ({"text": "a"}, {"text": "a "}, False),
        (CHAT, {"messages": [dict(reversed(m.items())) for m in CHAT["messages"]]}, True),
        (CHAT, {"prompt": "hi", "completion": "ho"}, True),
        (CHAT, CHAT | {"tools": [{"name": "t"}]}, False),
        ({"input_ids": [1, 2]}, {"input_ids": [1, 2], "labels": [-100, 2]}, False),
    ],
)
def test_records_that_say_the_same_share_a_key(
    first: dict[str, Any], second: dict[str, Any], is_same: bool
) -> None:
    one, other = record_of_fields("f", 1, first), record_of_fields("g", 2, second)
    assert isinstance(one, Record)
    assert isinstance(other, Record)
    assert (content_key(one) == content_key(other)) == is_same
    assert len(content_key(one)) == 16
    assert content_key(replace(one, file="h", line=9)) == content_key(one)


def test_a_record_knows_its_kind_and_its_texts() -> None:
    chat = Record("f", 1, messages=({"role": "user", "content": "a"}, {"content": None}))
    assert (chat.kind, chat.texts) == ("conversations", ["a"])
    assert (Record("f", 1, text="b").kind, Record("f", 1, text="b").texts) == ("text", ["b"])
    assert Record("f", 1, ids=(1, 2)).kind == "tokens"


def test_a_file_without_records_is_skipped_in_a_folder_and_rejected_by_name() -> None:
    named, found = Source("a", None), Source("a", None, found=True)
    words = RejectReason.NO_KNOWN_FIELDS, "keys: b"
    assert unusable_file(found, *words, keys=("b",)) == Skipped("a", *words)
    assert unusable_file(named, *words, keys=("b",)) == Rejected("a", 1, *words, ("b",))


def test_a_rejected_row_keeps_the_reason_its_place_and_a_short_detail() -> None:
    unfit = UnfitError(RejectReason.NOT_JSON, "x" * 999)
    assert unfit.rejected("f", 3) == Rejected("f", 3, RejectReason.NOT_JSON, "x" * 200)
