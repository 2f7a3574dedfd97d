"""Sources are split into parts that cover them once, in a different order for each epoch."""

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from headway.base.pulse import Pulse
from headway.data.formats import splits
from headway.data.formats.splits import SourceParts, can_split
from headway.data.sources.find import find_sources
from headway.data.sources.source import Source


def found(path: Path, content: bytes) -> Source:
    path.write_bytes(content)
    (source,) = find_sources([str(path)])
    return source


def jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PART_BYTES", 256)


def test_units_are_all_of_every_source_once(tmp_path: Path) -> None:
    big = jsonl(tmp_path / "a.jsonl", ["x" * 50] * 40)
    other = tmp_path / "b.txt"
    other.write_text("hello")
    units = SourceParts(find_sources([str(big), str(other)]), Pulse())
    parts = [units[number] for number in range(len(units))]
    assert parts[-1] == (units.sources[1], None)
    spans = [span for source, span in parts if source.name == str(big)]
    assert spans[0].begin == 0
    assert spans[-1].end == big.stat().st_size
    assert all(a.end == b.begin for a, b in pairwise(spans))


def test_every_epoch_takes_every_unit_in_an_order_of_its_own(tmp_path: Path) -> None:
    units = SourceParts(find_sources([str(jsonl(tmp_path / "a.jsonl", ["x" * 50] * 40))]), Pulse())
    orders = [[units.at(1, epoch, place) for place in range(len(units))] for epoch in range(3)]
    assert all(sorted(order) == list(range(len(units))) for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert [units.at(2, 0, place) for place in range(len(units))] != orders[0]


@pytest.mark.parametrize(
    ("name", "content", "is_split"),
    [
        ("a.jsonl", b"{}", True),
        ("a.NDJSON", b"{}", True),
        ("a.jsonl.gz", b"", False),
        ("a.csv", b"text\n" * 99, False),
        ("a.parquet", b"PAR1" * 99, False),
        ("a.txt", b"short", False),
        ("a.txt", b"long " * 99, True),
        ("README", b"long " * 99, True),
        ("a.txt", b'{"text": "rows"}\n' * 99, True),
        ("a.json", b'{"text": "rows"}\n' * 99, True),
        ("a.json", b'[{"text": "rows"}]' + b"\n" * 99, False),
        ("a.bin", b"\0" * 999, False),
    ],
)
def test_what_can_be_split(
    name: str, content: bytes, is_split: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.data.formats.splits.LONGEST_WHOLE", 100)
    assert can_split(found(tmp_path / name, content)) == is_split


def test_a_stream_cannot_be_split(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    assert not can_split(Source("a.jsonl", tmp_path / "a.jsonl"))
    assert not can_split(Source("standard input", None))
    assert not can_split(Source("s3://b/a.jsonl", None, 9, stamp=("e",), address="s3://b/a.jsonl"))


def test_sources_that_cannot_be_split_are_one_part_each() -> None:
    remote = Source("s3://b/a", None, 10**9, stamp=("e",), address="s3://b/a")
    parts = SourceParts([remote, Source("standard input", None)], Pulse())
    assert len(parts) == 2
    assert [parts[n] for n in range(2)] == [(source, None) for source in parts.sources]


def test_a_file_that_cannot_be_read_is_left_for_the_reader_to_report(tmp_path: Path) -> None:
    gone = Source("a.txt", tmp_path / "a.txt", 10**9, stamp=(1,))
    assert not can_split(gone)
    assert SourceParts([gone], Pulse())[0] == (gone, None)


def test_many_files_are_told_apart_with_a_beat_for_each(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.txt").write_text("A line.")

    class Beats(Pulse):
        num = 0

        def beat(self) -> None:
            self.num += 1

    pulse = Beats()
    assert len(SourceParts(find_sources([str(tmp_path)]), pulse)) == 50
    assert pulse.num >= 50
