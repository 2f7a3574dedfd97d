"""Safetensors headers are read without torch; pickles are named and never read."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from headway.base.errors import Cause, UsageError
from headway.model.safetensors_index import (
    INDEX,
    WHOLE,
    check_file,
    check_folder,
    find_pickle,
    read_header,
    weight_files,
)


def save(path: Path, shape: list[int], num_bytes: int = 8) -> Path:
    entries = {"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, num_bytes]}}
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(num_bytes))
    return path


def test_a_header_is_names_types_and_shapes(tmp_path: Path) -> None:
    assert read_header(save(tmp_path / WHOLE, [2])) == {"a": ("F32", (2,))}


def test_more_dimensions_than_torch_has_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / WHOLE, [2] + [1] * 64)
    with pytest.raises(ValueError, match="a has 65 dimensions"):
        read_header(path)


def test_a_damaged_file_and_a_missing_one_have_a_cause(tmp_path: Path) -> None:
    for path in (save(tmp_path / WHOLE, [3]), tmp_path / "missing.safetensors"):
        with pytest.raises(UsageError) as refused:
            check_file(path)
        assert refused.value.cause is Cause.WEIGHTS_DAMAGED


def test_a_folder_without_weights_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        check_folder(tmp_path)
    assert refused.value.cause is Cause.WEIGHTS_MISSING
    (tmp_path / "model.pt").touch()
    assert find_pickle(tmp_path) == "model.pt"
    with pytest.raises(UsageError) as refused:
        check_folder(tmp_path)
    assert refused.value.cause is Cause.WEIGHTS_PICKLED


def test_a_whole_file_wins_over_an_index(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "../a.safetensors"}}))
    with pytest.raises(ValueError, match="not a safetensors file next to it"):
        weight_files(tmp_path)
    save(tmp_path / WHOLE, [2])
    assert weight_files(tmp_path) == [tmp_path / WHOLE]


def test_reading_a_header_imports_no_torch(tmp_path: Path) -> None:
    path = save(tmp_path / WHOLE, [2])
    code = (
        "import sys; from pathlib import Path\n"
        "from headway.model.safetensors_index import read_header\n"
        f"read_header(Path({str(path)!r})); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
