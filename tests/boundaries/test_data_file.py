"""Odd and hostile data files are read within bounds, or refused by name with every row counted."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from tests.boundaries.odd_files import TEXT, bracket, packed_bomb

from headway.base.errors import Cause, DataRefused, UsageError
from headway.base.foreign.budget import Budget, limited
from headway.base.pulse import Pulse
from headway.data.examples.maker import ExampleOptions
from headway.data.formats import detect
from headway.data.formats.detect import read
from headway.data.formats.records import Record, Rejected, RejectReason, Skipped
from headway.data.sources.find import find_sources
from headway.data.survey.store import Store
from headway.data.survey.survey import survey

BOUND = Budget(memory_bytes=700_000_000, cpu_s=60)


def items(path: Path) -> list[Record | Rejected | Skipped]:
    """What a file gives, within bounds; long texts are not kept."""
    found: list[Record | Rejected | Skipped] = []
    with limited(BOUND):
        for source in find_sources([str(path)]):
            for item in read(source, lambda _: None, Pulse()):
                is_long = isinstance(item, Record) and len(item.text or "") > 10_000
                found.append(Record(item.file, item.line, text="") if is_long else item)
    return found


def surveyed(path: Path, cache: Path, exact_bytes: int = 1_000_000) -> Store:
    options = ExampleOptions(None, 300, None, assistant_only=False)
    found = find_sources([str(path)])
    return survey(
        found, options, max_rejected=0.1, exact_bytes=exact_bytes, cache=cache, pulse=Pulse()
    )


# ---- names and folders -------------------------------------------------------------------------


def test_links_that_lead_in_circles_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "up").symlink_to("..")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    (tmp_path / "a.txt").write_text(TEXT)
    assert [source.path for source in find_sources([str(tmp_path)])] == [tmp_path / "a.txt"]
    with pytest.raises(UsageError, match=r"cannot read .*/self") as caught:
        find_sources([str(tmp_path / "self")])
    assert caught.value.have == "Too many levels of symbolic links"


@contextmanager
def nested(folder: Path, name: str, depth: int) -> Iterator[int]:
    """Folders in a folder in a folder, as a descriptor of the innermost; removed afterwards."""
    here = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir(name, dir_fd=here)
            below = os.open(name, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)
        # Python's own `rmtree` recurses, and so would pytest's.
        subprocess.run(["rm", "-rf", folder / name], check=True)


def test_a_folder_1500_deep_is_read(tmp_path: Path) -> None:
    with nested(tmp_path, "d", 1500) as innermost:
        file = os.open("a.txt", os.O_WRONLY | os.O_CREAT, dir_fd=innermost)
        os.write(file, TEXT.encode())
        os.close(file)
        (found,) = items(tmp_path)
    assert isinstance(found, Record)
    assert found.text == TEXT


def test_a_folder_too_deep_for_any_path_is_refused_by_name(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match=f"cannot read {tmp_path}")
    with nested(tmp_path, "d" * 100, 60), refused as caught:
        find_sources([str(tmp_path)])
    assert caught.value.have == "File name too long"


def test_a_listing_of_many_files_beats(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number}.txt").touch()

    class Beats(Pulse):
        num = 0

        def beat(self) -> None:
            self.num += 1

    pulse = Beats()
    assert len(find_sources([str(tmp_path)], pulse=pulse)) == 300
    assert pulse.num >= 300


# ---- large rows, small files -------------------------------------------------------------------


def test_rows_of_3_mb_are_sampled(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("w") as file:
        for _ in range(2):
            file.write(json.dumps({"text": "word " * 600_000}) + "\n")
    found = surveyed(path, tmp_path).survey
    assert found.sampled is not None
    assert found.records_accepted >= 1
    assert found.characters == 3_000_000 * found.records_accepted


@pytest.mark.parametrize("name", ["zeros.jsonl", "zeros.json", "row.jsonl"])
def test_50_gb_without_a_line_end_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(50 << 30)
    with pytest.raises(DataRefused) as caught, limited(BOUND):
        surveyed(path, tmp_path)
    assert caught.value.what == f"{path}:1: row too long"
    assert "no line end in the first 134.2 MB" in caught.value.have


def test_50_gb_of_zeros_after_some_rows_leave_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps({"text": TEXT}).encode() + b"\n")
        file.truncate(50 << 30)
    assert surveyed(path, tmp_path).survey.records_accepted == 1


def dictionary_table(path: Path, value_bytes: int, num_rows: int) -> None:
    """A table that repeats one value."""
    value = pa.array([TEXT * (value_bytes // len(TEXT))])
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * num_rows, pa.int32()), value)
    parquet.write_table(pa.table({"text": rows}), path)


def test_a_table_that_unfolds_to_gigabytes_is_refused_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "dict.parquet"
    dictionary_table(path, 8_000_000, 20_000)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataRefused, match=r"dict\.parquet expands more than 250 times") as caught:
        items(path)
    assert caught.value.cause == Cause.SOURCE_DAMAGED


def test_a_table_that_repeats_usual_values_is_read(tmp_path: Path) -> None:
    dictionary_table(tmp_path / "dict.parquet", 3000, 2000)
    assert len(items(tmp_path / "dict.parquet")) == 2000


def test_a_small_gzip_is_not_read_to_gigabytes(tmp_path: Path) -> None:
    path = tmp_path / "words.txt.gz"
    path.write_bytes(packed_bomb(130 << 20))
    with pytest.raises(DataRefused, match=r"words\.txt\.gz expands more than 250 times"):
        items(path)


def test_brackets_alone_are_damage_soon(tmp_path: Path) -> None:
    path = tmp_path / "brackets.json"
    path.write_bytes(b"[" * (16 << 20))
    with pytest.raises(DataRefused, match=r"brackets\.json is nested too deeply"):
        items(path)
    (tmp_path / "deep.jsonl").write_bytes(bracket(3000) + json.dumps({"text": TEXT}).encode())
    bad, good = items(tmp_path / "deep.jsonl")
    assert isinstance(bad, Rejected)
    assert bad.reason is RejectReason.NESTED_TOO_DEEPLY
    assert isinstance(good, Record)


def test_an_error_that_nobody_foresaw_is_a_refusal_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise IndexError("list index out of range")

    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": TEXT}))
    monkeypatch.setitem(detect.READERS, ".jsonl", fail)
    with pytest.raises(DataRefused) as caught:
        items(path)
    assert caught.value.what == f"{path} cannot be read after row 0"
    assert caught.value.have == "IndexError: list index out of range"
