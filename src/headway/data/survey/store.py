"""Example store: tokenized data on disk, written once and memory-mapped.

A store is a folder in the cache. Its name is a hash of the sources' content, the tokenizer, the
template and the settings that shape examples. It is safe to delete (it is rebuilt) and safe with
two runs at once (it appears atomically).
"""

import contextlib
import hashlib
from array import array
from collections.abc import Generator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.data.examples.examples import Example
from headway.data.formats.records import DataKind, Rejected
from headway.data.survey.result import Lengths, Survey

SCHEMA = "headway.store/1"


@dataclass(frozen=True)
class StoreMeta:
    """`store.json`: the survey and how to read the arrays."""

    schema: str
    dtype: str  # of ids.bin
    files: tuple[str, ...]  # file names that `places` indexes
    survey: Survey


class Store:
    """A finished store, memory-mapped.

    Attributes:
        ids: (tokens,) token ids of all examples, concatenated.
        starts: (examples + 1,) where each example begins in `ids`.
        trained: (tokens,) which tokens are trained; None: all but the first of each example.
        places: (examples, 2) index into `meta.files`, and line number.

    Raises:
        OSError, EOFError, ValueError: the folder does not contain a complete store.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = msgspec.json.decode((folder / "store.json").read_bytes(), type=StoreMeta)
        self.ids: NDArray[np.unsignedinteger] = _memory_map(folder / "ids.bin", self.meta.dtype)
        self.starts: NDArray[np.int64] = np.load(folder / "starts.npy", mmap_mode="r")
        self.places: NDArray[np.int64] = np.load(folder / "places.npy", mmap_mode="r")
        self.trained: NDArray[np.bool_] | None = (
            None if self.survey.kind == "text" else _memory_map(folder / "trained.bin", "bool")
        )
        num_tokens, num_places = len(self.ids), len(self.places)
        flagged = num_tokens if self.trained is None else len(self.trained)
        if (int(self.starts[-1]), len(self), num_tokens) != (num_tokens, num_places, flagged):
            raise EOFError(f"{folder} is cut off: {num_tokens} tokens, {num_places} examples")

    @property
    def survey(self) -> Survey:
        """The survey made when the store was written."""
        return self.meta.survey

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rejected(self, most: int | None = None) -> list[Rejected]:
        """The records that were rejected; at most `most` of them, the first."""
        with (self.folder / "rejected.jsonl").open("rb") as lines:
            return [msgspec.json.decode(line, type=Rejected) for line in islice(lines, most)]

    def place(self, example: int) -> str:
        """`file:line` of an example."""
        file, line = self.places[example]
        return f"{self.meta.files[file]}:{line}"


class StoreWriter:
    """Writes examples one by one, with little in memory; `finish` writes the rest.

    Args:
        folder: an existing, empty folder.
        kind: text has no flags on disk: all but the first token of each document are trained.
        vocab_size: determines the bytes per id.
    """

    def __init__(self, folder: Path, kind: DataKind, vocab_size: int) -> None:
        self.folder = folder
        self.kind: DataKind = kind
        self.dtype = id_dtype(vocab_size)
        self.num_tokens = 0
        self.num_trained = 0
        self.max_id = 0
        # Arrays, because lists of ten million numbers would take a gigabyte.
        self._starts = array("q", [0])
        self._places = array("q")
        self._files: dict[str, int] = {}
        self._ids = (folder / "ids.bin").open("wb")
        self._trained = None if kind == "text" else (folder / "trained.bin").open("wb")
        self._rejected = (folder / "rejected.jsonl").open("wb")
        self._hash = hashlib.sha256()

    def add(self, example: Example) -> None:
        """Append one example."""
        ids, trained = example.ids.astype(self.dtype).tobytes(), example.trained.tobytes()
        self._ids.write(ids)
        if self._trained:
            self._trained.write(trained)
        self._hash.update(len(ids).to_bytes(8, "little") + ids + trained)
        self.num_tokens += len(example.ids)
        self.num_trained += int(example.trained.sum())
        self.max_id = max(self.max_id, int(example.ids.max()))
        self._starts.append(self.num_tokens)
        file = self._files.setdefault(example.file, len(self._files))
        self._places.extend((file, example.line))

    def reject(self, rejected: Rejected) -> None:
        """Append one line to `rejected.jsonl`."""
        self._rejected.write(msgspec.json.encode(rejected) + b"\n")

    @property
    def examples_sha256(self) -> str:
        """sha256 over the examples written so far: token ids, and which are trained."""
        return self._hash.hexdigest()

    def lengths(self) -> NDArray[np.int64]:
        """(examples,) tokens of each example written so far."""
        return np.diff(np.asarray(self._starts, dtype=np.int64))

    def finish(self, survey: Survey) -> None:
        """Write the arrays and `store.json`; the store can be opened afterwards."""
        self.close()
        np.save(self.folder / "starts.npy", np.asarray(self._starts, dtype=np.int64))
        places = np.asarray(self._places, dtype=np.int64).reshape(-1, 2)
        np.save(self.folder / "places.npy", places)
        meta = StoreMeta(SCHEMA, self.dtype, tuple(self._files), survey)
        (self.folder / "store.json").write_bytes(msgspec.json.encode(meta))

    def close(self) -> None:
        """Close the files; calling it twice is safe."""
        for file in self._open_files():
            file.close()

    def _open_files(self) -> tuple[IO[bytes], ...]:
        return tuple(f for f in (self._ids, self._trained, self._rejected) if f)

    @contextlib.contextmanager
    def closing(self) -> Generator["StoreWriter"]:
        """Close the files on exit, with or without an error."""
        try:
            yield self
        finally:
            self.close()


def id_dtype(vocab_size: int) -> str:
    """The dtype of ids on disk: two bytes up to id 65,535, four bytes beyond."""
    return "uint16" if vocab_size <= 1 << 16 else "uint32"


def summarize(lengths: NDArray[np.int64]) -> Lengths:
    """Mean, median, 95th percentile and maximum; zeros if there are no lengths."""
    if not len(lengths):
        return Lengths(0.0, 0.0, 0.0, 0)
    # np.percentile imports numpy.ma, which takes 14 ms.
    ordered = np.sort(lengths)

    def quantile(share: float) -> float:
        at = share * (len(ordered) - 1)
        below = int(at)
        above = min(below + 1, len(ordered) - 1)
        return float(ordered[below] + (at - below) * (ordered[above] - ordered[below]))

    return Lengths(float(ordered.mean()), quantile(0.5), quantile(0.95), int(ordered[-1]))


def _memory_map(path: Path, dtype: str) -> NDArray[Any]:
    if path.stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
