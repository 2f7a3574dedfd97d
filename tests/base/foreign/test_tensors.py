"""Tensors are found, compared and searched for NaN by their bytes; nothing is unpickled."""

import math
import struct
from pathlib import Path

import pytest
from tests.guard.judge.left import archive, floats, safetensors

from headway.base.foreign.tensors import (
    Comparison,
    TensorBytes,
    compare,
    has_nan,
    is_finite,
    is_zero,
    read_tensors,
)

MIB = 1 << 20


def test_a_file_that_the_library_wrote_is_read_the_same(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    arrays = {"b": np.arange(6, dtype=np.float32), "a": np.zeros((2, 3), dtype=np.float16)}
    path = tmp_path / "model.safetensors"
    save_file(arrays, path, metadata={"format": "pt"})
    content = path.read_bytes()
    tensors = read_tensors(path)
    assert {name: one.dtype for name, one in tensors.items()} == {"a": "F16", "b": "F32"}
    for name, one in tensors.items():
        assert content[one.begin : one.begin + one.bytes] == arrays[name].tobytes()


def test_an_archive_that_torch_wrote_is_compared_without_its_pickle(tmp_path: Path) -> None:
    import torch

    weights = {"weight": torch.arange(300.0), "bias": torch.ones(7, dtype=torch.bfloat16)}
    for name in ("a.pt", "same.pt", "other.pt"):
        torch.save({"model": weights, "epoch": name}, tmp_path / name)
        weights["bias"] = weights["bias"] + (name == "same.pt")
    first, same, other = (read_tensors(tmp_path / n) for n in ("a.pt", "same.pt", "other.pt"))
    assert sorted(one.bytes for one in first.values()) == [14, 1200]
    assert compare(first, same, MIB) == Comparison(2, differs=False)
    assert compare(first, other, MIB) == Comparison(2, differs=True)


def test_nothing_in_an_archive_is_run(tmp_path: Path) -> None:
    assert list(read_tensors(archive(tmp_path / "a.pt", b"1234"))) == ["data/0"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-1],
        lambda whole: whole + b"\0",
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: whole[:8] + b"[" + whole[9:],
        lambda whole: whole.replace(b"[0, 8]", b"[0,99]"),
        lambda whole: whole.replace(b'"data_offsets"', b'"data_offsetz"'),
        lambda _: b"",
        lambda whole: whole[:5],
        lambda _: struct.pack("<Q", 100_000) + b"[" * 100_000,
    ],
)
def test_a_damaged_file_is_told(tmp_path: Path, damage: "type") -> None:
    path = safetensors(tmp_path / "a.safetensors", {"w": floats(1, 2)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError):
        read_tensors(path)


def test_an_archive_that_was_cut_off_is_told_and_an_old_pickle_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.pt", b"12345678" * 100)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match="written completely"):
        read_tensors(path)
    path.write_bytes(b"\x80\x02}q\x00.")
    assert read_tensors(path) == {}


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "a.safetensors", {"w": floats(1)})
    (tmp_path / "link.safetensors").symlink_to(path)
    with pytest.raises(OSError, match="regular"):
        read_tensors(tmp_path / "link.safetensors")


def test_the_last_byte_decides_and_too_much_is_not_said_to_be_equal(tmp_path: Path) -> None:
    long = bytes(3 * MIB)
    first = read_tensors(safetensors(tmp_path / "a.safetensors", {"v": bytes(8), "w": long}))
    second = read_tensors(
        safetensors(tmp_path / "b.safetensors", {"w": long[:-4] + b"\1\0\0\0", "v": bytes(8)})
    )
    assert compare(first, second, 8 * MIB).differs
    assert not compare(first, first, 8 * MIB).differs
    assert compare(first, second, 2 * MIB).differs is None


def test_tensors_of_other_lengths_and_none_at_all_prove_nothing(tmp_path: Path) -> None:
    first = read_tensors(safetensors(tmp_path / "a.safetensors", {"w": floats(1), "v": b""}))
    second = read_tensors(safetensors(tmp_path / "b.safetensors", {"w": floats(1, 1), "v": b""}))
    assert not compare(first, second, MIB).is_equal


@pytest.mark.parametrize(
    ("dtype", "number", "found"),
    [
        ("F32", struct.pack("<f", math.nan), True),
        ("F32", struct.pack("<I", 0xFF800001), True),
        ("F32", struct.pack("<f", -math.inf), False),  # a mask may be
        ("F32", struct.pack("<f", 3.4e38), False),
        ("F64", struct.pack("<d", math.nan), True),
        ("F64", struct.pack("<d", 1.7e308), False),
        ("F16", struct.pack("<e", math.nan), True),
        ("F16", struct.pack("<e", math.inf), False),
        ("F16", struct.pack("<e", 65504.0), False),
        ("BF16", b"\xc0\x7f", True),
        ("BF16", b"\x80\xff", False),
        ("I64", b"\xff" * 8, False),
    ],
)
def test_only_nan_is_nan(tmp_path: Path, dtype: str, number: bytes, *, found: bool) -> None:
    content = bytes(2 * MIB) + number
    one = read_tensors(safetensors(tmp_path / "a.safetensors", {"w": content}, dtype))["w"]
    assert has_nan(one, 4 * MIB) is found
    assert not has_nan(one, MIB), "it lies behind what may be read"


def test_zero_is_zero_to_the_last_byte(tmp_path: Path) -> None:
    tensors = {"zero": bytes(2 * MIB), "last": bytes(2 * MIB - 1) + b"\1"}
    found = read_tensors(safetensors(tmp_path / "a.safetensors", tensors))
    assert is_zero(found["zero"], 4 * MIB)
    assert not is_zero(found["last"], 4 * MIB)
    assert not is_zero(found["zero"], MIB), "too long to say"


def test_zero_has_two_signs_and_a_tiny_number_is_none(tmp_path: Path) -> None:
    numbers = {"signs": floats(0.0, -0.0), "tiny": b"\x80\0\0\0" * 2, "negative": floats(-2.0)}
    found = read_tensors(safetensors(tmp_path / "a.safetensors", numbers))
    assert {name: is_zero(one, MIB) for name, one in found.items()} == {
        "signs": True,
        "tiny": False,
        "negative": False,
    }


@pytest.mark.parametrize(
    ("number", "finite"),
    [(math.nan, False), (math.inf, False), (-math.inf, False), (3.4e38, True), (0.0, True)],
)
def test_infinity_is_not_finite_either(tmp_path: Path, number: float, *, finite: bool) -> None:
    content = bytes(2 * MIB) + struct.pack("<f", number)
    one = read_tensors(safetensors(tmp_path / "a.safetensors", {"w": content}))["w"]
    assert is_finite(one) is finite
    assert one.shape == (len(content) // 4,)


def test_a_file_that_has_gone_is_an_error_to_count(tmp_path: Path) -> None:
    gone = {"w": TensorBytes(tmp_path / "gone", 0, 8, "F32")}
    with pytest.raises(OSError, match="gone"):
        compare(gone, gone, MIB)
