"""Stream description on disk: the input of the reader process, in a folder of the cache."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.base.files import write_whole
from headway.data.examples.maker import ExampleOptions
from headway.data.sources.source import Source
from headway.data.stream.stream import StreamSpec

_NAME = "stream.json"


@dataclass(frozen=True)
class StreamFile:
    """`stream.json`.

    Attributes:
        sources: as they were found; a reader refuses sources that have changed since.
        options: how their records become examples.
        store: the folder of the sample's store, with the tokenizer.
        spec: of the rows.
        day: when the stream was first planned, ISO 8601; the current date for chat templates.
    """

    sources: tuple[Source, ...]
    options: ExampleOptions
    store: str
    spec: StreamSpec
    day: str


def save_stream(folder: Path, file: StreamFile) -> None:
    """Write stream.json.

    Raises:
        MachineError: the file cannot be written.
    """
    # Private: an address may contain a password.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(folder / _NAME, msgspec.json.encode(file, enc_hook=_path_to_text))


def load_stream(folder: Path) -> StreamFile:
    """Read stream.json.

    Raises:
        OSError: the file does not exist.
        msgspec.ValidationError: another version of Headway wrote it.
    """
    data = (folder / _NAME).read_bytes()
    return msgspec.json.decode(data, type=StreamFile, dec_hook=_text_to_path)


def _path_to_text(value: Any) -> str:
    """A path may contain any bytes; each becomes one character."""
    return os.fsencode(value).decode("latin-1")


def _text_to_path(kind: type, value: Any) -> Any:
    return kind(os.fsdecode(value.encode("latin-1")))
