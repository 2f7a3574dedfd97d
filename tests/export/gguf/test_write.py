"""A file is read back as it was meant: metadata by type, tensors by value."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from headway.export.gguf.architecture import UnsupportedModelError
from headway.export.gguf.formats import TensorFormat
from headway.export.gguf.write import PlannedTensor, write_gguf
from headway.model.gguf.container import mapped, read_gguf
from headway.model.gguf.layout import TensorTarget

PLANNED = [
    PlannedTensor("a.weight", TensorTarget("a", (3, 5)), TensorFormat("F16", 30)),
    PlannedTensor("b.weight", TensorTarget("b", (7,)), TensorFormat("F32", 28)),
]


def write(path: Path, tensors: Any, metadata: dict[str, Any] | None = None) -> list[int]:
    done: list[int] = []
    extra = {"rope_freqs.weight": [1.0, 2.5, 4.0]}
    write_gguf(path, "llama", metadata or {}, extra, PLANNED, tensors, done.append)
    return done


def test_what_is_written_is_read(tmp_path: Path) -> None:
    a, b = torch.arange(15.0).reshape(3, 5), torch.arange(7.0)
    path = tmp_path / "a.gguf"
    metadata = {
        "x.flag": True,
        "x.whole": 3,
        "x.number": 2.0,
        "x.text": "ä",
        "x.texts": ["a", "b"],
        "x.numbers": [1, 2],
    }
    done = write(path, [("a", a), ("unused", a), ("b", b)], metadata)
    assert done == [30, 58]
    file = read_gguf(path)
    assert {key: file.metadata[key] for key in metadata} == {
        key: tuple(value) if isinstance(value, list) else value for key, value in metadata.items()
    }
    assert file.metadata["general.architecture"] == "llama"
    assert list(file.tensors) == ["rope_freqs.weight", "a.weight", "b.weight"]
    with mapped(path) as data:
        for name, kind, expected in (
            ("rope_freqs.weight", np.float32, np.array([1.0, 2.5, 4.0])),
            ("a.weight", np.float16, a.numpy()),
            ("b.weight", np.float32, b.numpy()),
        ):
            place = file.tensors[name]
            assert place.offset % 32 == 0
            raw = np.frombuffer(data, np.uint8, place.num_bytes, place.offset).view(kind)
            assert raw.reshape(place.shape).tolist() == expected.tolist()


def test_a_tensor_that_grew_meanwhile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"a of shape \[4, 5\]"):
        write(tmp_path / "a.gguf", [("a", torch.zeros(4, 5)), ("b", torch.zeros(7))])


def test_a_tensor_that_does_not_come_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="was not among the tensors"):
        write(tmp_path / "a.gguf", [("a", torch.zeros(3, 5))])
