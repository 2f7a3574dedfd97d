"""Versioned JSON: this version, older ones through upgrades, newer ones refused."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.base.errors import Cause, UsageError
from headway.base.versioned_json import read


@dataclass(frozen=True)
class Box:
    schema: str
    width_cm: float
    labels: tuple[str, ...]
    weights: dict[int, float]


def from_1(value: dict[str, Any]) -> dict[str, Any]:
    """Version 1 called the width `width` and had one label."""
    return {
        "width_mm": value["width"] * 10,
        "labels": [value["label"]],
        "weights": value["weights"],
    }


def from_2(value: dict[str, Any]) -> dict[str, Any]:
    """Version 2 measured in millimeters."""
    return {k: v for k, v in value.items() if k != "width_mm"} | {
        "width_cm": value["width_mm"] / 10
    }


UPGRADES = {"box/1": from_1, "box/2": from_2}
NOW = Box("box/3", 4.0, ("oak",), {3: 0.5})


def written(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "box.json"
    path.write_text(json.dumps(value))
    return path


def test_a_value_of_this_version_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "box.json"
    path.write_bytes(msgspec.json.encode(NOW))
    assert read(path, Box, "box/3", UPGRADES) == NOW


@pytest.mark.parametrize(
    "value",
    [
        {"schema": "box/1", "width": 4, "label": "oak", "weights": {"3": 0.5}},
        {"schema": "box/2", "width_mm": 40, "labels": ["oak"], "weights": {"3": 0.5}},
    ],
    ids=["two versions back", "one version back"],
)
def test_older_values_are_upgraded_one_version_at_a_time(
    tmp_path: Path, value: dict[str, Any]
) -> None:
    assert read(written(tmp_path, value), Box, "box/3", UPGRADES) == NOW


def test_a_newer_value_is_refused_with_a_remedy(tmp_path: Path) -> None:
    path = written(tmp_path, {"schema": "box/4", "version": "9.9"})
    with pytest.raises(UsageError, match="was written by a newer Headway") as refused:
        read(path, Box, "box/3", UPGRADES)
    assert refused.value.cause is Cause.NEWER_VERSION
    assert refused.value.have == "box/4, written by Headway 9.9"
    assert refused.value.remedies[0].do == "pip install --upgrade headway"


@pytest.mark.parametrize("schema", ["box/0", "crate/4", "else", "", "box/x"])
def test_another_schema_is_not_called_newer(tmp_path: Path, schema: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="expected schema box/3"):
        read(written(tmp_path, {"schema": schema}), Box, "box/3", UPGRADES)


@pytest.mark.parametrize(
    "value",
    [
        {"schema": "box/1", "width": 4},
        {"schema": "box/1", "width": None, "label": "oak", "weights": {}},
        {"schema": "box/2", "width_mm": 40, "labels": 7, "weights": {}},
    ],
    ids=["a field is missing", "a field has another type", "the upgraded value is invalid"],
)
def test_an_older_value_that_is_not_valid_is_refused(tmp_path: Path, value: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        read(written(tmp_path, value), Box, "box/3", UPGRADES)


def test_a_missing_step_between_versions_is_refused(tmp_path: Path) -> None:
    value = {"schema": "box/1", "width": 4, "label": "oak", "weights": {}}
    with pytest.raises(msgspec.ValidationError, match="not a valid box/2"):
        read(written(tmp_path, value), Box, "box/3", {"box/1": from_1})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema": 1}', b"{}"])
def test_bytes_that_are_no_such_json_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "box.json").write_bytes(data)
    with pytest.raises(msgspec.MsgspecError):
        read(tmp_path / "box.json", Box, "box/3", UPGRADES)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.json", Box, "box/3", UPGRADES)
