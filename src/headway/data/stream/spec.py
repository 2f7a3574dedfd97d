"""A flow on disk: what its reader has to know, in a folder of the cache."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.base.files import write_whole
from headway.data.examples.maker import ExampleOptions
from headway.data.sources.source import Source
from headway.data.stream.stream import StreamSpec

_NAME = "flow.json"


@dataclass(frozen=True)
class StreamFile:
    """`flow.json`.

    Attributes:
        sources: as they were found; a reader refuses one that has changed since.
        options: how their records become examples.
        store: the folder of the sample, with the tokenizer.
        shape: of the rows.
        day: when the flow was first planned, ISO 8601: what templates take for today.
    """

    sources: tuple[Source, ...]
    options: ExampleOptions
    store: str
    shape: StreamSpec
    day: str


def save_stream(folder: Path, file: StreamFile) -> None:
    """Write flow.json.

    Raises:
        MachineError: the disk does not take it.
    """
    # nobody else's to read: an address may hold a password
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(folder / _NAME, msgspec.json.encode(file, enc_hook=_as_text))


def load_stream(folder: Path) -> StreamFile:
    """Read flow.json.

    Raises:
        OSError: there is none.
        msgspec.ValidationError: it is not one of this version.
    """
    data = (folder / _NAME).read_bytes()
    return msgspec.json.decode(data, type=StreamFile, dec_hook=_as_path)


def _as_text(value: Any) -> str:
    """A path: any bytes may be in it, and each becomes one character."""
    return os.fsencode(value).decode("latin-1")


def _as_path(kind: type, value: Any) -> Any:
    return kind(os.fsdecode(value.encode("latin-1")))
