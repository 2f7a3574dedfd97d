"""Folders of `save_to_disk` are read through their tables; what describes them is no data."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import ipc

from headway.base.errors import Cause, DataRefused
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Record
from headway.data.sources.find import find_sources
from headway.data.sources.folders import PassReason


def save(folder: Path, *texts: str, shards: int = 1, **state: object) -> Path:
    """A dataset as `datasets` writes it."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05}-of-{shards:05}.arrow" for n in range(shards)]
    for number, name in enumerate(names):
        table = pa.table({"text": list(texts[number::shards])})
        with ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    files = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "a1"}
    (folder / "state.json").write_text(json.dumps(files | state))
    (folder / "dataset_info.json").write_text(json.dumps({"citation": "", "features": {"text": 1}}))
    return folder


def save_splits(folder: Path, *names: str) -> Path:
    for name in names:
        save(folder / name, f"of {name}")
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": names}))
    return folder


def texts(*paths: Path) -> list[str | None]:
    sources = find_sources(list(map(str, paths)))
    made = [item for source in sources for item in read(source, lambda _: None, Pulse())]
    return [item.text if isinstance(item, Record) else str(item) for item in made]


@pytest.mark.parametrize("shards", [1, 3])
def test_the_rows_are_those_of_the_tables(shards: int, tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "a", "b", "c", shards=shards)
    (folder / "cache-0123.arrow").write_bytes(b"of an earlier map")
    assert texts(folder) == ["a", "b", "c"]
    assert texts(tmp_path) == ["a", "b", "c"]
    found = find_sources([str(folder)])
    assert {Path(one.name).name: one.reason for one in found.passed} == dict.fromkeys(
        ("cache-0123.arrow", "dataset_info.json", "state.json"), PassReason.METADATA
    )


def test_what_datasets_writes_is_read(tmp_path: Path) -> None:
    code = (
        "import sys; from datasets import Dataset, DatasetDict as D; "
        "s = [Dataset.from_dict({'text': [t + str(n) for n in range(3)]}) for t in 'ab']; "
        "s[0].save_to_disk(sys.argv[1] + '/one', num_shards=2); "
        "D(train=s[0], test=s[1]).save_to_disk(sys.argv[1] + '/two')"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True)
    assert texts(tmp_path / "one") == ["a0", "a1", "a2"]
    assert texts(tmp_path / "two") == ["a0", "a1", "a2"]


def test_of_several_splits_the_one_for_training_is_read(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "set", "test", "train", "validation")
    assert texts(folder) == ["of train"]
    others = [
        one for one in find_sources([str(folder)]).passed if one.reason != "metadata of a dataset"
    ]
    assert {(Path(one.name).name, one.reason) for one in others} == {
        ("test", PassReason.OTHER_SPLIT),
        ("validation", PassReason.OTHER_SPLIT),
    }
    assert texts(folder / "test") == ["of test"]
    assert texts(save_splits(tmp_path / "alone", "test")) == ["of test"]


def test_splits_that_nothing_tells_apart_are_refused_with_a_line_for_each(tmp_path: Path) -> None:
    folder = save_splits(tmp_path / "a set", "poems", "letters")
    with pytest.raises(DataRefused, match="several splits") as caught:
        texts(folder)
    made = [texts(Path(shlex.split(remedy.do)[0])) for remedy in caught.value.remedies]
    assert made == [["of poems"], ["of letters"]]


@pytest.mark.parametrize("broken", ["data-00001-of-00002.arrow", "state.json"])
def test_a_dataset_that_is_not_whole_is_refused(broken: str, tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "a", "b", shards=2)
    (folder / broken).unlink() if broken.endswith("arrow") else (folder / broken).write_text("{")
    for path in (folder, tmp_path):
        with pytest.raises(DataRefused, match=f"is incomplete: {broken}") as caught:
            texts(path)
        assert caught.value.cause is Cause.SOURCE_DAMAGED


def test_a_selection_is_refused_with_a_line_that_writes_its_rows(tmp_path: Path) -> None:
    folder = save(tmp_path / "set", "a", "b", _indices_data_files=[{"filename": "indices.arrow"}])
    with pytest.raises(DataRefused, match="is a selection") as caught:
        texts(folder)
    assert "flatten_indices" in caught.value.remedies[0].do
