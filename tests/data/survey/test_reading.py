"""One pass yields the usable records, and counts every other one in its place."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Cause, DataRefused, Refusal, UsageError
from headway.base.pulse import Pulse
from headway.data.formats.records import Rejected, RejectReason
from headway.data.sources.find import find_sources
from headway.data.sources.source import Source, Span
from headway.data.survey.reading import Part, Reading

CHAT = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}


def written(path: Path, *rows: object) -> Source:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(line + "\n" for line in lines))
    (source,) = find_sources([str(path)])
    return source


def reading(*parts: Part | Source, conversations: Refusal | None = None, **options: Any) -> Reading:
    parted = [one if isinstance(one, Part) else Part(one) for one in parts]
    settings: dict[str, Any] = {
        "drop_duplicates": False,
        "skip_corrupt": False,
        "pulse": Pulse(),
    } | options
    return Reading([part.source for part in parted], parted, conversations, **settings)


def texts(one: Reading) -> list[str | None]:
    return [record.text for record in one.records()]


def test_records_and_bytes_are_counted_by_part(tmp_path: Path) -> None:
    one = written(tmp_path / "a.jsonl", {"text": "a"}, "{bad", {"text": "b"})
    two = written(tmp_path / "b.jsonl", {"text": "c"})
    both = reading(one, two)
    assert texts(both) == ["a", "b", "c"]
    assert both.records_by_part == [2, 1]
    assert both.bytes_by_part == [one.size, two.size]
    assert both.num_bytes == one.size + two.size == both.pulse.done
    assert [(r.line, r.reason) for r in both.rejected] == [(2, RejectReason.NOT_JSON)]
    assert (both.pulse.rows, both.pulse.skipped) == (3, 1)
    assert both.shapes == {"text": 3}


def test_the_contents_are_hashed_by_source_and_a_limited_reading_names_the_size(
    tmp_path: Path,
) -> None:
    source = written(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    digest = hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    whole, limited = reading(source), reading(Part(source, max_bytes=10**6))
    assert texts(whole) == texts(limited) == ["a", "b"]
    assert whole.contents == {source.name: digest}
    assert limited.contents == {source.name: f"{source.size}:{digest}"}


def test_reading_stops_after_the_limit_of_a_part_and_goes_on_with_the_next(
    tmp_path: Path,
) -> None:
    large = tmp_path / "a.jsonl"
    large.write_text(json.dumps({"text": "word " * 1000}) + "\n")
    large.write_text(large.read_text() * 800)
    (source,) = find_sources([str(large)])
    other = written(tmp_path / "b.jsonl", {"text": "last"})
    limited = reading(Part(source, max_bytes=1_000_000), other)
    assert texts(limited)[-1] == "last"
    assert 1_000_000 <= limited.bytes_by_part[0] < source.size
    assert limited.bytes_by_part[1] == other.size


def test_a_row_of_a_span_is_rejected_with_its_line_in_the_file(tmp_path: Path) -> None:
    source = written(tmp_path / "a.jsonl", *[{"text": "row"}] * 9, "{bad", {"text": "last"})
    line_bytes = len('{"text": "row"}\n')
    half = reading(Part(source, Span(5 * line_bytes, source.size)))
    assert texts(half) == ["row"] * 4 + ["last"]
    assert [one.line for one in half.rejected] == [10]


def test_a_record_that_gives_no_example_is_rejected_with_its_line_in_its_part(
    tmp_path: Path,
) -> None:
    one = written(tmp_path / "a.jsonl", {"text": "a"}, {"text": "b"})
    two = written(tmp_path / "b.jsonl", *[{"text": "c"}] * 4)
    line_bytes = len('{"text": "c"}\n')
    both = reading(one, Part(two, Span(2 * line_bytes, two.size)))
    records = list(both.records())
    for number in (1, 2):
        record = records[number]
        reason = RejectReason.NO_TRAINED_TOKEN
        both.reject_record(Rejected(record.file, record.line, reason), number)
    assert [(r.file, r.line) for r in both.rejected] == [(one.name, 2), (two.name, 3)]
    assert (both.pulse.rows, both.pulse.skipped) == (2, 2)


@pytest.mark.parametrize("drop", [True, False])
def test_duplicates_are_dropped_on_request_and_always_counted(drop: bool, tmp_path: Path) -> None:
    rows = [{"text": "a"}, {"text": "b"}, {"text": "a", "id": 3}, {"text": "a"}]
    one = reading(written(tmp_path / "a.jsonl", *rows), drop_duplicates=drop)
    assert texts(one) == (["a", "b"] if drop else ["a", "b", "a", "a"])
    assert one.duplicates == 2
    dropped = [(r.line, r.reason) for r in one.rejected]
    assert dropped == ([(n, RejectReason.DUPLICATE) for n in (3, 4)] if drop else [])


def test_records_of_two_kinds_are_refused_after_all_are_counted(tmp_path: Path) -> None:
    one = reading(written(tmp_path / "a.jsonl", {"text": "a"}, CHAT, CHAT))
    with pytest.raises(DataRefused) as refusal:
        texts(one)
    assert refusal.value.cause is Cause.MIXED_KINDS
    assert "2 conversations" in refusal.value.have


def test_sources_without_a_record_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataRefused) as refusal:
        texts(reading(written(tmp_path / "a.jsonl", "{bad")))
    assert refusal.value.cause is Cause.NO_USABLE_RECORDS


def test_the_first_conversation_raises_the_refusal_of_conversations(tmp_path: Path) -> None:
    no = UsageError("a base model", cause=Cause.NOT_DATA)
    source = written(tmp_path / "a.jsonl", CHAT)
    with pytest.raises(UsageError) as refusal:
        texts(reading(source, conversations=no))
    assert refusal.value is no
    text = written(tmp_path / "b.jsonl", {"text": "a"})
    assert texts(reading(text, conversations=no)) == ["a"]


def test_the_content_of_a_skipped_file_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    (tmp_path / "b.bin").write_bytes(b"\0" * 99)
    sources = find_sources([str(tmp_path)])
    one = reading(*sources)
    assert texts(one) == ["hello"]
    assert [skipped.reason for skipped in one.skipped] == [RejectReason.BINARY]
    assert list(one.contents) == [sources[0].name]
