"""Weights are written a part at a time, and read back by the safetensors library."""

from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.model.gguf.gguf_files import small_model, write_gguf

from headway.model.gguf import weights
from headway.model.gguf.architecture import UnsupportedGgufError, config_of, targets_of
from headway.model.gguf.container import GgufFile, GgufTensor, read_gguf
from headway.model.gguf.layout import TensorTarget
from headway.model.gguf.weights import check_formats, read_values, stored_bytes, write_weights


def written(path: Path, out: Path) -> dict[str, np.ndarray]:
    file = read_gguf(path)
    targets = targets_of(file, config_of(file))
    done: list[int] = []
    write_weights(file, targets, out, done.append)
    assert done[-1] == stored_bytes(file, targets)
    return load_file(out)


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
def test_parts_of_any_size_make_the_same_file(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model(attention_bias=True), kind=kind)
    whole = written(path, tmp_path / "whole.safetensors")
    for num_values in (1, 640):
        monkeypatch.setattr(weights, "_PART_VALUES", num_values)
        parts = written(path, tmp_path / "parts.safetensors")
        assert parts.keys() == whole.keys()
        assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_quantized_values_are_those_of_their_own_package(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model("qwen2"), kind="Q4_1")
    found = written(path, tmp_path / "out.safetensors")
    (theirs,) = (t for t in gguf.GGUFReader(path).tensors if t.name == "blk.1.attn_q.weight")
    expected = gguf.dequantize(theirs.data, theirs.tensor_type)
    assert np.array_equal(found["model.layers.1.self_attn.q_proj.weight"], expected)


def test_a_format_that_their_package_cannot_read_is_refused(tmp_path: Path) -> None:
    odd = {"t": GgufTensor((4, 4), "I8", 0, 16)}
    with pytest.raises(UnsupportedGgufError, match="I8"):
        check_formats(GgufFile(tmp_path, {}, odd), {"t": TensorTarget("t", (4, 4))})


def test_a_small_tensor_is_read_as_numbers(tmp_path: Path) -> None:
    model = small_model()
    file = read_gguf(write_gguf(tmp_path / "a.gguf", model, kind="F16"))
    assert read_values(file, "output_norm.weight") == model.model.norm.weight.tolist()
    with pytest.raises(UnsupportedGgufError, match="F16"):
        read_values(file, "output.weight")
