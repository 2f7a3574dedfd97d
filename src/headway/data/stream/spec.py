"""Stream description on disk: the input of the reader process, in a folder of the cache."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from headway.base.files import write_whole
from headway.data.examples.maker import ExampleOptions
from headway.data.formats.records import DataKind
from headway.data.sources.source import Source

_NAME = "stream.json"


@dataclass(frozen=True)
class StreamSpec:
    """How a stream is cut into rows and windows.

    Attributes:
        kind: of the records; others are rejected.
        max_length: targets in a row of text; tokens in a conversation.
        truncation: what happens to longer conversations.
        batch_size: rows of a step.
        steps_per_window: steps of a window, unless its epoch ends.
        held_out: rows that come before all others and are never trained.
        seed: for the order of units.
        max_rejected: share of rejected records above which the data is refused.
        dtype: of ids on disk.
    """

    kind: DataKind
    max_length: int
    truncation: Literal["cut", "reject"]
    batch_size: int
    steps_per_window: int
    held_out: int
    seed: int
    max_rejected: float
    dtype: str

    @property
    def window_rows(self) -> int:
        """Rows of a window, unless its epoch ends."""
        return self.batch_size * self.steps_per_window


@dataclass(frozen=True)
class StreamFile:
    """`stream.json`.

    Attributes:
        sources: as they were found; a reader refuses sources that have changed since.
        options: how their records become examples.
        store: the folder of the sample's store, with the tokenizer.
        spec: of the rows.
    """

    sources: tuple[Source, ...]
    options: ExampleOptions
    store: str
    spec: StreamSpec


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
