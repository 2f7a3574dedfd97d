"""The example store maps what was written, and every example has its file and line."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import chat_store, text_store

from headway.data.examples.examples import Example
from headway.data.formats.records import Rejected
from headway.data.survey.store import Lengths, Store, StoreWriter, summarize


def test_conversations_come_back_as_written(tmp_path: Path) -> None:
    store = chat_store(tmp_path, "..xx", ".x.x.")
    assert len(store) == 2
    assert store.starts.tolist() == [0, 4, 9]
    assert store.trained is not None
    assert store.trained.tolist() == [c == "x" for c in "..xx.x.x."]
    assert store.survey.trained_tokens == 4
    assert store.survey.lengths == Lengths(4.5, 4.5, 4.95, 5)


def test_text_keeps_no_flags(tmp_path: Path) -> None:
    store = text_store(tmp_path, 3, 4)
    assert store.trained is None
    assert not (tmp_path / "trained.bin").exists()
    assert store.ids.tolist() == [100, 107, 101, 101, 108, 102, 109]
    assert store.survey.trained_tokens == 5  # all but each document's first


PARTS = ["store.json", "ids.bin", "starts.npy", "places.npy", "trained.bin"]


@pytest.mark.parametrize("damage", ["gone", "empty", "a byte short"])
@pytest.mark.parametrize("part", PARTS)
def test_a_store_that_lacks_a_part_or_a_byte_is_none(
    tmp_path: Path, part: str, damage: str
) -> None:
    chat_store(tmp_path, "..xx", ".x.x.")
    path = tmp_path / part
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[:-1] if damage == "a byte short" else b"")
    with pytest.raises((OSError, EOFError, ValueError)):
        Store(tmp_path)


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(259, "uint16"), (65_536, "uint16"), (65_537, "uint32")]
)
def test_the_largest_id_fits(tmp_path: Path, vocab_size: int, dtype: str) -> None:
    writer = StoreWriter(tmp_path, "text", vocab_size)
    ids = np.array([0, vocab_size - 1], dtype=np.int32)
    writer.add(Example("a.txt", 1, ids, np.array([False, True])))
    assert (writer.dtype, writer.max_id) == (dtype, vocab_size - 1)
    writer.close()
    written = np.fromfile(tmp_path / "ids.bin", dtype=dtype)
    assert written.tolist() == [0, vocab_size - 1]


def test_every_example_knows_its_file_and_line(tmp_path: Path) -> None:
    survey = text_store(tmp_path / "other", 2).survey
    (tmp_path / "new").mkdir()
    writer = StoreWriter(tmp_path / "new", "text", 300)
    for file, line in (("b.txt", 1), ("a.txt", 7), ("b.txt", 9)):
        writer.add(Example(file, line, np.array([1, 2], np.int32), np.array([False, True])))
    writer.reject(Rejected("b.txt", 3, "not JSON", "{"))
    writer.finish(survey)
    store = type(text_store(tmp_path / "kind", 2))(tmp_path / "new")
    assert [store.place(n) for n in range(3)] == ["b.txt:1", "a.txt:7", "b.txt:9"]
    (line,) = (tmp_path / "new" / "rejected.jsonl").read_bytes().splitlines()
    assert msgspec.json.decode(line, type=Rejected) == Rejected("b.txt", 3, "not JSON", "{")


def test_a_store_without_examples_can_be_opened(tmp_path: Path) -> None:
    store = text_store(tmp_path)
    assert len(store) == len(store.ids) == 0
    assert store.survey.lengths == Lengths(0.0, 0.0, 0.0, 0)


def test_files_are_closed_whatever_happens(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, "conversations", 300)
    with pytest.raises(KeyboardInterrupt), writer.closing():
        raise KeyboardInterrupt
    assert all(file.closed for file in writer._open_files())


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=50))
def test_the_summary_of_lengths_is_numpys(lengths: list[int]) -> None:
    found = summarize(np.array(lengths))
    assert found.mean == pytest.approx(np.mean(lengths))
    assert found.median == pytest.approx(np.median(lengths))
    assert found.p95 == pytest.approx(np.percentile(lengths, 95))
    assert found.max == max(lengths)
