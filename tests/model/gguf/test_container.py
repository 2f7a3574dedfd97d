"""The container is read whole, or refused for the length that does not fit."""

import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
from tests.model.gguf.gguf_files import small_model, tokens, write_gguf

from headway.model.gguf.container import is_gguf, mapped, read_gguf


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def header(*keys: bytes, tensors: int = 0, version: int = 3, num_keys: int | None = None) -> bytes:
    counts = struct.pack("<IQQ", version, tensors, len(keys) if num_keys is None else num_keys)
    return b"GGUF" + counts + b"".join(keys)


def tensor(name: str, shape: tuple[int, ...], number: int = 0, offset: int = 0) -> bytes:
    dimensions = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + dimensions + struct.pack("<IQ", number, offset)


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def test_it_reads_what_their_own_reader_reads(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", small_model("qwen3"), kind="Q8_0")
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    for name, field in theirs.fields.items():
        if not name.startswith("GGUF."):
            value: Any = ours.metadata[name]
            assert (list(value) if isinstance(value, tuple) else value) == field.contents()
    assert ours.metadata["tokenizer.ggml.tokens"] == tuple(tokens())
    found = {
        one.name: (tuple(reversed(one.shape.tolist())), one.tensor_type.name, one.data_offset)
        for one in theirs.tensors
    }
    assert found == {n: (one.shape, one.kind, one.offset) for n, one in ours.tensors.items()}
    assert {one.name: one.n_bytes for one in theirs.tensors} == {
        name: one.num_bytes for name, one in ours.tensors.items()
    }


@pytest.mark.parametrize(
    ("content", "have"),
    [
        (b"", "an empty file"),
        (b"PK\x03\x04" + bytes(40), "does not begin with GGUF"),
        (header(version=1), "version 1"),
        (struct.pack(">4sI", b"GGUF", 3) + bytes(40), "version 50331648"),
        (header(num_keys=1 << 40), "at most 65,536"),
        (header(num_keys=60_000), "cut short"),
        (header(tensors=1 << 60), "at most 262,144"),
        (header(key("a", 8, struct.pack("<Q", 1 << 62))), "cut short"),
        (header(key("a", 9, struct.pack("<IQ", 8, 1 << 62))), "at most 8,388,608"),
        (header(key("a", 9, struct.pack("<IQ", 8, 1 << 20))), "cut short"),
        (header(key("a", 9, struct.pack("<IQ", 0, 1 << 20))), "cut short"),
        (header(key("a", 9, struct.pack("<IQ", 9, 1)) + bytes(64)), "unknown type 9"),
        (header(key("a", 77, bytes(64))), "unknown type 77"),
        (header(key("a", 4, bytes(4)), key("a", 4, bytes(4))), "'a' twice"),
        (header(key("general.alignment", 4, struct.pack("<I", 24))), "not a power of two"),
        (header(key("general.alignment", 8, text("32"))), "not a power of two"),
        (header(tensor("t", (4,)), tensors=1, num_keys=0) + bytes(8), "cut short"),
        (header(tensor("t", (1 << 40, 1 << 40)), tensors=1, num_keys=0), "cut short"),
        (header(tensor("t", (4,), 999), tensors=1, num_keys=0), "unknown number format 999"),
        (header(tensor("t", (0, 4)), tensors=1, num_keys=0), "shape [4, 0]"),
        (header(tensor("t", (33,), 8), tensors=1, num_keys=0), "does not fill blocks of 32"),
        (header(tensor("t", (1,) * 5), tensors=1, num_keys=0), "5 dimensions"),
        (header(tensor("t", (4,), offset=8), tensors=1, num_keys=0) + bytes(99), "multiple of 32"),
        (
            header(tensor("t", (1,)), tensor("t", (1,)), tensors=2, num_keys=0) + bytes(99),
            "'t' twice",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_length_that_does_not_fit_is_named(content: bytes, have: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=have.replace("[", r"\[")):
        read_gguf(path)


def test_a_file_is_known_by_its_name_or_its_first_bytes(tmp_path: Path) -> None:
    for name, content, expected in (
        ("a.gguf", b"anything", True),
        ("B.GGUF", b"", True),
        ("model", b"GGUF....", True),
        ("config.json", b"{}", False),
        ("short", b"GG", False),
    ):
        (tmp_path / name).write_bytes(content)
        assert is_gguf(tmp_path / name) is expected
    (tmp_path / "folder.gguf").mkdir()
    assert not is_gguf(tmp_path / "folder.gguf")
    assert not is_gguf(tmp_path / "missing.gguf")


def test_bytes_stay_readable_while_an_array_uses_them(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    with mapped(path) as data:
        part = data[1:]
    assert bytes(part) == b"bc"
