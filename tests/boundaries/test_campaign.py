"""Campaigns with a fixed seed: no crash, no hang, no uncounted row, whatever is read."""

import time
from pathlib import Path
from random import Random

import pytest
from tests.boundaries.ends import end_of
from tests.boundaries.odd_answers import headers, object_info
from tests.boundaries.odd_files import file_by_chance
from tests.boundaries.odd_models import changed_by_chance, copied

from headway.base.errors import Refusal
from headway.base.foreign.answers import MAX_BYTES
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Record, Rejected, Skipped
from headway.data.sources import http, s3
from headway.data.sources.find import find_sources

LONGEST_S = 20.0  # of a case; each takes a fraction of a second
CODES = {0, 2, 3, 4, 5}


def few(num: int, most: int) -> list[object]:
    """Numbers of cases: some in each `make test`, the rest in `make chaos`."""
    rest = [
        pytest.param(begin, min(500, most - begin), marks=pytest.mark.chaos)
        for begin in range(num, most, 500)
    ]
    return [pytest.param(0, num), *rest]


@pytest.mark.parametrize(("begin", "num"), few(60, 3000))
def test_model_folders(begin: int, num: int, good: Path, chats: Path, tmp_path: Path) -> None:
    for seed in range(begin, begin + num):
        folder, began_s = copied(good, tmp_path / "odd"), time.monotonic()
        said = changed_by_chance(folder, Random(seed))
        try:
            end = end_of(chats, folder, tmp_path)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {said}") from error
        assert end.code in CODES, (seed, said)
        assert not end.code or end.is_told(""), (seed, said, end.said)
        assert time.monotonic() - began_s < LONGEST_S, (seed, said)


@pytest.mark.parametrize(("begin", "num"), few(150, 6000))
def test_data_files(begin: int, num: int, tmp_path: Path) -> None:
    for seed in range(begin, begin + num):
        path, content = file_by_chance(tmp_path, Random(seed))
        began_s = time.monotonic()
        items: list[Record | Rejected | Skipped] = []
        refused = ""
        try:
            for source in find_sources([str(path)]):
                items += read(source, lambda _: None, Pulse())
        except Refusal as refusal:
            refused = refusal.what
        except Exception as error:
            raise AssertionError(f"seed {seed}: {path.name}") from error
        path.unlink()
        assert time.monotonic() - began_s < LONGEST_S, seed
        assert path.name in refused if refused else items, (seed, refused)
        if path.suffix == ".jsonl" and not refused:  # each row is a record, or counted as bad
            rows = [
                line for line in content.split(b"\n") if line.removeprefix(b"\xef\xbb\xbf").strip()
            ]
            assert len(items) == max(len(rows), 1), seed


@pytest.mark.parametrize(("begin", "num"), few(90, 1000))
def test_answers(begin: int, num: int) -> None:
    for seed in range(begin, begin + num):
        draws = Random(seed)
        said, info = headers(draws), object_info(draws)
        for status in (200, 206):
            assert 0 <= http._size(said, status) <= MAX_BYTES
        wait_s = http._retry_after_s(said.get("retry-after"), 0.0)
        assert wait_s is None or 0 <= wait_s < float("inf"), seed
        is_whole = type(info.get("size")) is int and 0 <= info["size"] <= MAX_BYTES
        if (is_whole or info.get("size") == "12") and info.get("ETag") in ("12", "many"):
            assert s3._source(info, "", found=True).size == int(info["size"])
        else:
            with pytest.raises(Refusal, match=r"bucket/key\.jsonl"):
                s3._source(info, "", found=True)
