"""Source lookup: files, folders, patterns, addresses and standard input.

Each kind of remote address has a module of its own; `formats` turns the bytes into records.
"""

import difflib
import glob
import io
import os
import re
import select
import shlex
import stat
from collections.abc import Iterable, Iterator, Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO, TypeVar

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, ComeBack, DataRefused, Problems, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.base.network.hub import is_id
from headway.base.pulse import Pulse
from headway.base.units import plural, size
from headway.data.sources import http as web
from headway.data.sources import hub_dataset as hub
from headway.data.sources import s3
from headway.data.sources.seekable import seekable_file
from headway.data.sources.source import STANDARD_INPUT, Chunks, Source

T = TypeVar("T")
_CHUNK_BYTES = 1 << 20
_POLL_MS = 500  # how often a wait beats the pulse
_NEED = "a file, a folder, a pattern, an address, or - for standard input"
_FILES = re.compile(r"\.(txt|md|jsonl?|ndjson|csv|tsv|parquet|gz|zst|bz2|xz)$", re.IGNORECASE)


def find_sources(
    sources: Sequence[str], *, endpoint_url: str | None = None, pulse: Pulse | None = None
) -> list[Source]:
    """The sources, in the order given; files of a folder in the order of their paths.

    Args:
        sources: files, folders, patterns, `-`, http(s)://, s3://, hf:// or a hub's owner/name.
        endpoint_url: of the S3-compatible store for s3:// addresses.
        pulse: shows every wait for a remote host.

    Raises:
        UsageError: a source does not exist or cannot be read, or is a model's folder.
        DataRefused: a folder contains no files.
        ComeBack: a remote host does not respond.
        Problems: several of these.
    """
    if not sources or not all(sources):
        remedy = Remedy("headway demo", "trains on text that is already on this machine")
        raise UsageError(
            "no data given", cause=Cause.MISSING_ARGUMENT, need=_NEED, remedies=(remedy,)
        )
    found: list[Source] = []
    problems: list[Refusal] = []
    for name in sources:
        try:
            with _not_listable(name)():
                found += _expand(name, endpoint_url or "", pulse or Pulse())
        except Refusal as refusal:
            problems.append(refusal)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    return found


def _expand(name: str, endpoint: str, pulse: Pulse) -> list[Source]:
    if name == "-":
        return [Source(STANDARD_INPUT, None)]
    scheme = re.match(r"([A-Za-z0-9+.-]+)://", name)
    match scheme and scheme[1].lower():
        case None:
            return _find_local(name, pulse)
        case "http" | "https":
            return [web.find(name, pulse)]
        case "s3":
            return s3.find(name, endpoint, pulse)
        case "hf":
            return hub.find(name, pulse)
        case other:
            raise _no_such_scheme(name, other)


def _find_local(name: str, pulse: Pulse) -> list[Source]:
    path = Path(name)
    try:
        status = path.stat()
    except FileNotFoundError:
        found = [s for match in _matches(name, pulse) for s in _walk(Path(match), pulse)]
        if found:
            return found
        if not is_id(name) or path.parent.is_dir() or _FILES.search(name):
            raise _source_missing(name) from None
        return _on_hub(name, pulse)
    except (OSError, ValueError) as error:
        raise source_unreadable(name, error) from None
    if stat.S_ISDIR(status.st_mode):
        return _list_folder(path, pulse)
    if not stat.S_ISREG(status.st_mode):
        return [Source(_printable(name), path)]
    return [Source(_printable(name), path, status.st_size, stamp=_stamp(status))]


def _matches(pattern: str, pulse: Pulse) -> list[str]:
    """The paths that match, sorted; the pulse counts them, and beats where nothing matches."""
    found: list[str] = []
    if glob.has_magic(pattern):
        with pulse.helped(lambda: len(found)):
            found += glob.iglob(pattern, recursive=True)  # noqa: PTH207 - takes absolute patterns
        pulse.progress(len(found))
    return sorted(found)


def _list_folder(folder: Path, pulse: Pulse) -> list[Source]:
    weights = sorted(folder.glob("*.safetensors"))
    if weights and (folder / "config.json").exists():
        raise UsageError(
            f"{folder} is a model, not data",
            cause=Cause.NOT_DATA,
            have=f"config.json and {weights[0].name}",
            need="text or conversations",
            remedies=(Remedy(f"--model {shlex.quote(str(folder))}", "trains it on data"),),
        )
    found = _walk(folder, pulse)
    if not found:
        raise DataRefused(
            f"{folder} contains no files",
            cause=Cause.NO_USABLE_RECORDS,
            have="at most hidden files and links that lead out of the folder",
            need="at least one file of text or JSONL",
            remedies=(Remedy(f"ls -lA {shlex.quote(str(folder))}", "lists the folder"),),
        )
    return found


def _walk(path: Path, pulse: Pulse) -> list[Source]:
    """A file, or the files below a folder except hidden files, caches and links out of it."""
    inside = Path(os.path.realpath(path))
    is_folder = path.is_dir()
    files = _files_below(path, pulse) if is_folder else [path]
    found: list[Source] = []
    for file in sorted(files, key=lambda file: file.parts):
        pulse.beat()
        # Not `resolve`, which some versions of Python refuse for a link that leads to itself.
        leads_out = file.is_symlink() and not Path(os.path.realpath(file)).is_relative_to(inside)
        if file.is_file() and not (is_folder and leads_out):
            status = file.stat()
            name = _printable(str(file))
            found.append(Source(name, file, status.st_size, True, _stamp(status)))
    return found


def _files_below(folder: Path, pulse: Pulse) -> list[Path]:
    """The files in a folder and the folders in it, however deep; links to folders are left out.

    Raises:
        UsageError: a folder cannot be read.
    """
    files: list[Path] = []
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            with os.scandir(place) as entries:
                for entry in _counted(entries, pulse):
                    if entry.name[0] == ".":
                        continue
                    if not _is_folder(entry):
                        files.append(place / entry.name)
                    elif entry.name != "__pycache__" and not entry.is_symlink():
                        waiting.append(place / entry.name)
        except OSError as error:
            raise source_unreadable(_printable(str(place)), error) from error
    return files


def _counted(found: Iterable[T], pulse: Pulse) -> Iterator[T]:
    """What is found, one by one; each shows in the pulse."""
    for one in found:
        pulse.progress(pulse.done + 1)
        yield one


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself, or to where nobody may look
        return False


def _printable(name: str) -> str:
    """A file name as it is shown: valid text, and no signature of the address it came from."""
    return hide_credentials(os.fsencode(name).decode(errors="replace"))


def _stamp(status: os.stat_result) -> tuple[int | str, ...]:
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


def _on_hub(name: str, pulse: Pulse) -> list[Source]:
    """A name that is not a local path may be a Hub dataset, or a misspelled path."""
    try:
        return hub.find(name, pulse)
    except Refusal as refusal:
        near = tuple(map(Remedy, _similar_paths(Path(name))))
        if near:
            refusal.remedies = near + refusal.remedies
        raise


def _not_listable(name: str) -> Boundary:
    shown = _printable(name)
    return Boundary(
        f"cannot find data in {shown}",
        cause=Cause.SOURCE_UNREADABLE,
        need=_NEED,
        remedies=(Remedy("headway demo", "trains on text that is already on this machine"),),
    )


def _no_such_scheme(name: str, scheme: str) -> UsageError:
    close = difflib.get_close_matches(scheme, ("https", "http", "s3", "hf"), n=1)
    return UsageError(
        f"{scheme}:// addresses are not supported",
        cause=Cause.ADDRESS_INVALID,
        have=name,
        need="https://, s3:// or hf://",
        remedies=(Remedy(f"{close[0]}://..."),)
        if close
        else (Remedy("copy it here", "then train the copy"),),
    )


def _source_missing(name: str) -> UsageError:
    """The refusal of a path that does not exist; it suggests similar paths."""
    above = _nearest_folder(Path(name))
    there = _names(above)
    near = tuple(map(Remedy, _similar_paths(Path(name))))
    return UsageError(
        f"{name}: " + ("no file matches" if glob.has_magic(name) else "no such file or folder"),
        cause=Cause.SOURCE_NOT_FOUND,
        have=f"{plural(len(there), 'name')} in {above.absolute()}",
        need=_NEED,
        remedies=near or (Remedy(f"ls {shlex.quote(str(above))}", "lists the folder"),),
    )


def _nearest_folder(path: Path) -> Path:
    return next(place for place in path.parents if place.is_dir())


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if os.access(folder, os.R_OK) else []


def _similar_paths(path: Path) -> list[str]:
    """Existing paths with a spelling similar to a missing one."""
    above = _nearest_folder(path)
    lost = path.relative_to(above).parts
    near = [above / match for match in difflib.get_close_matches(lost[0], _names(above))]
    whole = [place.joinpath(*lost[1:]) for place in near]
    nearest = (full if full.exists() else part for full, part in zip(whole, near, strict=True))
    return [shlex.quote(str(place)) for place in nearest]


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


# ---- bytes -----------------------------------------------------------------------------------


def chunks(source: Source, pulse: Pulse, begin: int = 0) -> Chunks:
    """The content from byte `begin` on, as it arrives.

    Raises:
        ComeBack: the source changed while it was being read, or the host does not respond.
        UsageError: a remote source is gone, or access was withdrawn.
        OSError: a local source cannot be opened or read.
    """
    if source.is_stream:
        assert not begin, "a stream is read once, from its beginning"
        return _stream(source, pulse)
    if source.path is not None:
        return _file(source, begin)
    remote = s3 if source.address.startswith("s3:") else web
    return remote.chunks(source, pulse, begin)


def open_seekable(source: Source, pulse: Pulse) -> BinaryIO:
    """The content as a seekable file, for formats that store their index at the end.

    Raises:
        UsageError: the source is a stream, or its server does not support range requests.
        OSError: it cannot be opened.
    """
    if source.path is not None and not source.is_stream:
        return io.BufferedReader(open_local(source))
    remote = s3 if source.address.startswith("s3:") else web
    if source.is_stream or not source.size:
        raise _not_seekable(source)
    if remote is web and not web.supports_ranges(source, pulse):
        raise _not_seekable(source)
    return seekable_file(source, lambda begin, end: remote.chunks(source, pulse, begin, end))


def _not_seekable(source: Source) -> UsageError:
    fetch = f"curl -Lo data{Path(source.name).suffix} {shlex.quote(source.name)}"
    return UsageError(
        f"{source.name} can only be read from start to end",
        cause=Cause.SOURCE_UNREADABLE,
        have="a stream" if source.is_stream else "a server without range requests",
        need="a local file: this format stores its index at the end",
        remedies=(Remedy(fetch if source.address else "save it to a file", "then train the file"),),
    )


def _file(source: Source, begin: int) -> Chunks:
    with open_local(source) as file:
        file.seek(begin)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
        check_unchanged(source, file)


def open_local(source: Source) -> FileIO:
    """Open a local file that is no stream.

    A pipe may have taken its place: it is not waited for.

    Raises:
        ComeBack: it is no regular file any more.
        OSError: it cannot be opened.
    """
    assert source.path is not None
    descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _changed(source)
    return FileIO(descriptor)


def check_unchanged(source: Source, file: FileIO) -> None:
    """Check that an open file has not changed since it was found.

    Raises:
        ComeBack: the file changed.
    """
    if _stamp(os.fstat(file.fileno())) != source.stamp:
        raise _changed(source)


def _changed(source: Source) -> ComeBack:
    assert source.path is not None
    copy = shlex.quote(f"{source.path.stem}-copy{source.path.suffix}")
    return ComeBack(
        f"{source.name} changed while it was being read",
        cause=Cause.SOURCE_CHANGED,
        have=f"another file than the one that was found, which had {size(source.size)}",
        need="a file that does not change",
        remedies=(Remedy(f"cp {shlex.quote(source.name)} {copy}", "then train the copy"),),
    )


def _stream(source: Source, pulse: Pulse) -> Chunks:
    """The bytes as they arrive, unbuffered: a buffer would hold back the lines of a slow writer."""
    if source.path is None:
        descriptor = 0
    else:
        # Nonblocking: opening a pipe would otherwise wait silently for its writer.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        arrived = select.poll()
        arrived.register(descriptor, select.POLLIN)
        while True:
            if not arrived.poll(0):
                with pulse.waiting(source.name):
                    while not arrived.poll(_POLL_MS):
                        pulse.beat()
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
    finally:
        if source.path is not None:
            os.close(descriptor)
