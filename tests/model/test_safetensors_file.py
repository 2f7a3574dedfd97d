"""A file that is written tensor by tensor is the one that safetensors reads."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from headway.model.safetensors_file import SafetensorsFile
from headway.model.safetensors_index import read_header

TENSORS = {
    "a": torch.randn(3, 5),
    "b": torch.randn(4, 4).t(),  # not contiguous
    "c": torch.zeros(0, 7),
    "d": torch.tensor(1.5),
}


def test_tensors_read_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with SafetensorsFile(path, {name: tuple(t.shape) for name, t in TENSORS.items()}) as file:
        for name, tensor in TENSORS.items():
            file.add(name, tensor)
    assert read_header(path).keys() == TENSORS.keys()
    with safe_open(path, framework="pt") as found:
        assert found.metadata() == {"format": "pt"}
        for name, tensor in TENSORS.items():
            assert torch.equal(found.get_tensor(name), tensor), name


def test_a_file_with_a_tensor_missing_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with SafetensorsFile(path, {"a": (3, 5), "b": (4, 4)}) as file:
        file.add("a", TENSORS["a"])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        read_header(path)


def test_tensors_come_in_the_order_of_the_header(tmp_path: Path) -> None:
    with (
        SafetensorsFile(tmp_path / "model.safetensors", {"a": (3, 5), "b": (4, 4)}) as file,
        pytest.raises(AssertionError),
    ):
        file.add("b", TENSORS["b"])
