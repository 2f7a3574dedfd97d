"""Folders of data: the files to read in them, and those to skip, with reasons."""

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path, PurePath
from typing import TypeVar

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, Remedy, UsageError
from headway.base.pulse import Pulse
from headway.data.sources.saved_dataset import DICTIONARY, STATE, saved_files, saved_split
from headway.data.sources.source import Source

T = TypeVar("T")
_DATA = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".arrow", ".feather")
_PACKED = (".gz", ".zst", ".bz2", ".xz")
# A JSON file beside documentation is data if these are in its beginning; `formats` decides how it
# is read.
_ROW_KEYS = tuple(
    f'"{key}"'.encode()
    for key in ("messages", "conversations", "text", "prompt", "instruction", "input_ids")
)
_PEEKED_BYTES = 1 << 16
_DOCUMENTATION = (
    *("readme", "license", "licence", "copying", "notice", "changelog", "changes", "citation"),
    *("authors", "contributors", "contributing", "code_of_conduct", "security", "dataset_card"),
)
_DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "croissant.json", "datapackage.json")
_INSTALLED = ("__pycache__", "node_modules", "site-packages")


class PassReason(StrEnum):
    """Why something in a folder is not read."""

    HIDDEN = "hidden"
    INSTALLED = "a cache or installed packages"
    LINK = "a link that leads outside the folder"
    NO_FILE = "not a regular file"
    DOCUMENTATION = "documentation beside data"
    METADATA = "metadata of a dataset"
    OTHER_SPLIT = "another split"
    RUN = "a run of Headway"
    MODEL = "a model or a checkpoint"


@dataclass(frozen=True)
class Passed:
    """A file or folder that is not read."""

    name: str
    reason: PassReason


class Found(list[Source]):
    """Sources, in order.

    Args:
        sources: to read.
        passed: what is not read.

    Attributes:
        passed: what is not read, in order.
    """

    def __init__(self, sources: Iterable[Source], passed: Iterable[Passed] = ()) -> None:
        super().__init__(sources)
        self.passed = tuple(passed)

    def renamed(self, name: str) -> "Found":
        """The same, with another name for the only source that there is."""
        (one,) = self
        return Found([replace(one, name=name)], self.passed)


def walk(path: Path, pulse: Pulse, *, is_named: bool = False) -> Found:
    """The files below a folder, in the order of their paths; a file is alone.

    Args:
        path: of the folder or file.
        pulse: shows each file.
        is_named: the folder itself is read whatever it is.

    Raises:
        UsageError: a folder cannot be read, or a dataset in it is incomplete.
    """
    if not path.is_dir():
        pulse.beat()
        source = _source_of(path)
        return Found(
            [source] if source else [], [] if source else [_passed(path, PassReason.NO_FILE)]
        )
    inside, walked = Path(os.path.realpath(path)), _Walked(pulse)
    walked.walk(path, is_named=is_named)
    found: list[Source] = []
    for file in sorted(walked.files, key=lambda file: file.parts):
        pulse.beat()
        # Not `resolve`, which some versions of Python refuse for a link that leads to itself.
        if file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside):
            walked.passed.append(_passed(file, PassReason.LINK))
        elif source := _source_of(file):
            found.append(source)
        else:
            walked.passed.append(_passed(file, PassReason.NO_FILE))
    return without_documentation(Found(found, walked.passed), pulse)


def kind_of_folder(names: set[str]) -> PassReason | None:
    """What a folder with these names in it is, if it holds no data."""
    if "plan.json" in names and not names.isdisjoint(("run.yaml", "events.jsonl")):
        return PassReason.RUN
    weights = {name for name in names if name.endswith((".safetensors", ".bin", ".gguf"))}
    is_model = weights and not names.isdisjoint(("config.json", "adapter_config.json"))
    if is_model or "headway.json" in names:
        return PassReason.MODEL
    return PassReason.INSTALLED if "pyvenv.cfg" in names else None


def without_documentation(found: Found, pulse: Pulse) -> Found:
    """The sources without the documentation next to data, or above it."""
    about = [one for one in found if _is_about(one)]
    above: set[PurePath] = set()
    for one in found if about else ():
        pulse.beat()
        folder = PurePath(one.name).parent
        if folder not in above and _is_data(one):
            above.update((folder, *folder.parents))
    beside = {one.name for one in about if PurePath(one.name).parent in above}
    passed = (Passed(one.name, PassReason.DOCUMENTATION) for one in about if one.name in beside)
    return Found([one for one in found if one.name not in beside], [*found.passed, *passed])


class _Walked:
    """The files in a folder and the folders in it, however deep."""

    def __init__(self, pulse: Pulse) -> None:
        self.files: list[Path] = []
        self.passed: list[Passed] = []
        self._pulse = pulse

    def walk(self, folder: Path, *, is_named: bool) -> None:
        """Look through a folder.

        Raises:
            Refusal: a folder in it cannot be read.
        """
        waiting = [folder]
        while waiting:
            place = waiting.pop()
            try:
                with os.scandir(place) as listed:
                    entries = list(counted(listed, self._pulse))
            except OSError as error:
                raise source_unreadable(printable(str(place)), error) from error
            names = {entry.name for entry in entries}
            kind = None if is_named and place == folder else kind_of_folder(names)
            if kind:
                self.passed.append(_passed(place, kind))
            elif DICTIONARY in names:
                waiting += self._walk_splits(place, names)
            elif STATE in names and any(name.endswith(".arrow") for name in names):
                self._walk_saved(place, names)
            else:
                waiting += self._walk_entries(place, entries)

    def _walk_entries(self, place: Path, entries: Sequence["os.DirEntry[str]"]) -> Iterator[Path]:
        for entry in entries:
            path = place / entry.name
            if entry.name[0] == ".":
                self.passed.append(_passed(path, PassReason.HIDDEN))
            elif not _is_folder(entry):
                self.files.append(path)
            elif entry.is_symlink():
                self.passed.append(_passed(path, PassReason.LINK))
            elif entry.name in _INSTALLED:
                self.passed.append(_passed(path, PassReason.INSTALLED))
            else:
                yield path

    def _walk_splits(self, place: Path, names: set[str]) -> Iterator[Path]:
        chosen, others = saved_split(place)
        self.passed += (_passed(place / name, PassReason.OTHER_SPLIT) for name in others)
        rest = sorted(names - {chosen, *others})
        self.passed += (_passed(place / name, PassReason.METADATA) for name in rest)
        yield place / chosen

    def _walk_saved(self, place: Path, names: set[str]) -> None:
        tables = saved_files(place)
        self.files += (place / name for name in tables)
        rest = sorted(names - set(tables))
        self.passed += (_passed(place / name, PassReason.METADATA) for name in rest)


def _passed(path: Path, reason: PassReason) -> Passed:
    return Passed(printable(str(path)), reason)


def _source_of(path: Path) -> Source | None:
    """A regular file as a source; None for anything else: a pipe would be waited for."""
    if not path.is_file():
        return None
    status = path.stat()
    return Source(printable(str(path)), path, status.st_size, True, stamp_of(status))


def counted(found: Iterable[T], pulse: Pulse) -> Iterator[T]:
    """What is found, one by one; each shows in the pulse."""
    for one in found:
        pulse.progress(pulse.done + 1)
        yield one


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where nobody may look
        return False


def _is_data(source: Source) -> bool:
    """Whether a file is data by its name, or JSON that begins like rows."""
    name = PurePath(source.name.lower())
    name = name.with_suffix("") if name.suffix in _PACKED else name
    if name.suffix != ".json":
        return name.suffix in _DATA
    if name.name in _DESCRIPTIONS or source.path is None:
        return False
    try:
        with source.path.open("rb") as file:
            head = file.read(_PEEKED_BYTES)
    except OSError:  # told when it is read
        return False
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") and any(
        key in head for key in _ROW_KEYS
    )


def _is_about(source: Source) -> bool:
    """Whether a file is about the data next to it, by its name."""
    name = PurePath(source.name).name.lower()
    if PurePath(name).suffix in (*_DATA, *_PACKED):
        return False
    words = name.split(".")[0].replace("-", "_")
    is_named = words in _DOCUMENTATION or words.startswith(("readme_", "license_"))
    return is_named or name in _DESCRIPTIONS or name.endswith((".md", ".rst"))


# ---- names and refusals ----------------------------------------------------------------------


def printable(name: str) -> str:
    """A file name as it is shown: valid text, and no signature of the address it came from."""
    return hide_credentials(os.fsencode(name).decode(errors="replace"))


def stamp_of(status: os.stat_result) -> tuple[int | str, ...]:
    """What changes whenever the content of a file does."""
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


def source_unreadable(name: str, error: OSError | ValueError) -> UsageError:
    """The refusal of a source that this user cannot read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageError(
        f"cannot read {name}",
        cause=Cause.SOURCE_UNREADABLE,
        have=reason,
        need=f"a file that user {os.getuid()} may read",
        remedies=(Remedy(f"ls -ld {shlex.quote(name)}", "shows its owner and permissions"),),
    )
