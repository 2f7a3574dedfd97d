"""GGUF conversion: a file becomes an ordinary transformers folder in the cache, once.

The folder's name is the hash of the file, so a copy elsewhere finds it and another file does not.
It is safe to delete: the same file becomes the same folder again.
"""

import contextlib
import errno
import importlib
import json
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Cause, MachineError, Refusal, Remedy, UsageError
from headway.base.files import (
    MANIFEST,
    Manifest,
    cache_folder,
    cached_hash,
    delete_folder,
    write_folder,
)
from headway.base.foreign.boundary import Boundary
from headway.base.pulse import Phase, Pulse
from headway.base.units import size
from headway.model.gguf.architecture import UnsupportedGgufError, config_of, targets_of
from headway.model.gguf.container import GgufFile, read_gguf
from headway.model.gguf.layout import TensorTarget
from headway.model.gguf.rope_factors import ROPE_FACTORS
from headway.model.gguf.vocabulary import Vocabulary, vocabulary_of
from headway.model.gguf.weights import check_formats, read_values, stored_bytes, write_weights
from headway.model.safetensors_index import WHOLE

_VERSION = 1  # of the conversion: another one makes other folders
_LEFT_S = 3600.0  # a folder that was not finished for so long is of a process that was killed
_ANOTHER_CACHE = Remedy("export XDG_CACHE_HOME=DIR", "a cache on a larger disk")


@dataclass(frozen=True)
class _Model:
    """All of a file that is known without its weights."""

    file: GgufFile
    config: dict[str, Any]
    targets: dict[str, TensorTarget]
    vocabulary: Vocabulary


def gguf_folder(path: Path, pulse: Pulse) -> Path:
    """The transformers folder of a GGUF file; converts the file the first time.

    Raises:
        UsageError: it is damaged, or of a kind that is not converted.
        MachineError: the disk is too small for the folder.
    """
    importlib.import_module("gguf.quants")  # outside the boundary: it may not be installed
    with pulse.phase(Phase.HASHING_MODEL), _unreadable(path)():
        digest = cached_hash(path).sha256
    folder = cache_folder("models", f"{digest[:32]}-{_VERSION}")
    if _is_intact(folder):
        return folder
    with _unreadable(path)():
        model = _read_model(path)
    num_bytes = stored_bytes(model.file, model.targets)
    _check_disk(path, folder, num_bytes)
    _tidy(folder)
    with pulse.phase(Phase.CONVERTING_MODEL, total=num_bytes, unit="bytes"), _unreadable(path)():
        try:
            write_folder(folder, lambda made: _fill(made, model, pulse.progress), _ANOTHER_CACHE)
        except MachineError:
            if not _is_intact(folder):  # another process may have been faster
                raise
    return folder


def _read_model(path: Path) -> _Model:
    try:
        file = read_gguf(path)
        factors = read_values(file, ROPE_FACTORS) if ROPE_FACTORS in file.tensors else []
        config = config_of(file, factors)
        targets = targets_of(file, config)
        check_formats(file, targets)
        vocabulary = vocabulary_of(
            file.metadata, config["vocab_size"], config["max_position_embeddings"]
        )
    except UnsupportedGgufError as error:
        raise _unsupported(path, error) from error
    return _Model(file, config | _ids(vocabulary), targets, vocabulary)


def _ids(vocabulary: Vocabulary) -> dict[str, Any]:
    """The special ids; the eos ids are all that end an answer."""
    ends = vocabulary.ends
    return vocabulary.ids | {"eos_token_id": ends[0] if len(ends) == 1 else list(ends)}


def _fill(folder: Path, model: _Model, progress: Callable[[int], None]) -> None:
    for name, content in model.vocabulary.files.items():
        (folder / name).write_bytes(content)
    for name, value in (
        ("config.json", model.config),
        ("generation_config.json", _ids(model.vocabulary)),
    ):
        (folder / name).write_bytes(json.dumps(value, indent=2).encode())
    write_weights(model.file, model.targets, folder / WHOLE, progress)


def _is_intact(folder: Path) -> bool:
    """Whether the folder has every file as it was written; unchanged files are not read again."""
    with contextlib.suppress(OSError, msgspec.DecodeError, UnicodeDecodeError):
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
        return all(cached_hash(folder / name) == one for name, one in manifest.files.items())
    return False


def _tidy(folder: Path) -> None:
    """Delete what is damaged, and what a killed process left."""
    delete_folder(folder)
    for left in folder.parent.glob(f".{folder.name}.*"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_S:
                shutil.rmtree(left, ignore_errors=True)


def _check_disk(path: Path, folder: Path, num_bytes: int) -> None:
    with disk_errors(folder, _ANOTHER_CACHE):
        place = next(parent for parent in folder.parents if parent.exists())
        free = shutil.disk_usage(place).free
    if free < num_bytes:
        raise MachineError(
            f"{path} does not fit on the disk of the cache as a model folder",
            cause=Cause.DISK_FULL,
            have=f"{size(free)} free in {place}",
            need=size(num_bytes),
            remedies=(_ANOTHER_CACHE,),
        )


def _unreadable(path: Path) -> Boundary:
    return Boundary(
        f"cannot read the GGUF file {path}",
        cause=Cause.MODEL_INVALID,
        need="a whole GGUF file, as llama.cpp writes it",
        remedies=(
            Remedy(f"ls -l {shlex.quote(str(path))}", "its size; copy it again if it is smaller"),
        ),
        passes=lambda error: isinstance(error, OSError) and error.errno == errno.EMFILE,
    )


def _unsupported(path: Path, error: UnsupportedGgufError) -> Refusal:
    return UsageError(
        f"the GGUF file {path} is of a kind that cannot be trained",
        cause=Cause.MODEL_UNSUPPORTED,
        have=str(error),
        need=error.need,
        remedies=(
            Remedy("--model DIR", "the transformers folder that the file was made from"),
            Remedy("--preset tiny", "train a model from scratch"),
        ),
    )
