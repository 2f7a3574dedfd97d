"""A stream's description comes back from disk, and only its owner may read it."""

import stat
from pathlib import Path

import msgspec
import pytest

from headway.data.examples.maker import ExampleOptions
from headway.data.sources.source import Source
from headway.data.stream.spec import StreamFile, StreamSpec, load_stream, save_stream

SPEC = StreamSpec("text", 16, "cut", 4, 1, 2, 7, 0.5, "uint16")


def file(*sources: Source, tokenizer: Path | None = None) -> StreamFile:
    options = ExampleOptions(tokenizer, 300, None, True)
    return StreamFile(sources, options, "store", SPEC)


def test_a_description_keeps_any_path(tmp_path: Path) -> None:
    odd = Path("caf\udce9.txt")  # a name that is not UTF-8
    local = Source("caf?.txt", odd, 3, stamp=(1, "etag"))
    remote = Source("s3://a/b", None, address="s3://a/b", endpoint="https://store")
    written = file(local, remote, tokenizer=odd)
    save_stream(tmp_path / "stream", written)
    assert load_stream(tmp_path / "stream") == written


def test_only_the_owner_may_read_a_description_because_addresses_contain_passwords(
    tmp_path: Path,
) -> None:
    save_stream(tmp_path / "stream", file())
    assert stat.S_IMODE((tmp_path / "stream").stat().st_mode) == 0o700


def test_a_description_of_another_version_is_not_read(tmp_path: Path) -> None:
    save_stream(tmp_path, file())
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text().replace('"batch_size"', '"window_rows"'))
    with pytest.raises(msgspec.ValidationError):
        load_stream(tmp_path)


def test_a_missing_description_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_stream(tmp_path)
