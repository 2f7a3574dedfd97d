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
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from headway.base.errors import Cause, ComeBack, DataRefused, Problems, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.base.network.hub import is_id
from headway.base.pulse import Pulse
from headway.base.units import plural, size
from headway.data.sources import http as web
from headway.data.sources import hub_dataset as hub
from headway.data.sources import s3
from headway.data.sources.descriptors import descriptor_of
from headway.data.sources.folders import (
    Found,
    Passed,
    PassReason,
    kind_of_folder,
    printable,
    source_unreadable,
    stamp_of,
    walk,
    without_documentation,
)
from headway.data.sources.seekable import seekable_file
from headway.data.sources.source import STANDARD_INPUT, Chunks, Source

_CHUNK_BYTES = 1 << 20
_POLL_MS = 500  # how often a wait beats the pulse
_NEED = "a file, a folder, a pattern, an address, or - for standard input"
_FILES = re.compile(
    r"\.(txt|md|jsonl?|ndjson|csv|tsv|parquet|arrow|feather|gz|zst|bz2|xz)$", re.IGNORECASE
)


def find_sources(
    sources: Sequence[str], *, endpoint_url: str | None = None, pulse: Pulse | None = None
) -> Found:
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
        remedy = Remedy("headway demo", "needs no data of yours")
        raise UsageError(
            "no data given", cause=Cause.MISSING_ARGUMENT, need=_NEED, remedies=(remedy,)
        )
    found: list[Source] = []
    passed: list[Passed] = []
    problems: list[Refusal] = []
    for name in sources:
        try:
            with _not_listable(name)():
                expanded = _expand(name, endpoint_url or "", pulse or Pulse())
                found += expanded
                passed += expanded.passed
        except Refusal as refusal:
            problems.append(refusal)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    return Found(found, passed)


def _expand(name: str, endpoint: str, pulse: Pulse) -> Found:
    descriptor = descriptor_of(name)
    if descriptor is not None:
        return Found([_open_descriptor(name, descriptor)])
    scheme = re.match(r"([A-Za-z0-9+.-]+)://", name)
    match scheme and scheme[1].lower():
        case None:
            return _find_local(name, pulse)
        case "http" | "https":
            return Found([web.find(name, pulse)])
        case "s3":
            return Found(s3.find(name, endpoint, pulse))
        case "hf":
            return Found(hub.find(name, pulse))
        case other:
            raise _no_such_scheme(name, other)


def _open_descriptor(name: str, number: int) -> Source:
    """A descriptor that the program's parent left open for it.

    Raises:
        UsageError: it is not open, or is written to.
    """
    if number == 0:
        return Source(STANDARD_INPUT, None)
    try:
        if number <= 2:
            raise ValueError("the program writes there")
        os.fstat(number)
    except (OSError, ValueError) as error:
        raise source_unreadable(name, error) from None
    return Source(name, Path(name))


def _find_local(name: str, pulse: Pulse) -> Found:
    path = Path(name)
    try:
        status = path.stat()
    except FileNotFoundError:
        walked = [walk(Path(match), pulse) for match in _matches(name, pulse)]
        found = [source for one in walked for source in one]
        if found:
            passed = [one for each in walked for one in each.passed]
            return without_documentation(Found(found, passed), pulse)
        if not is_id(name) or path.parent.is_dir() or _FILES.search(name):
            raise _source_missing(name) from None
        return Found(_on_hub(name, pulse))
    except (OSError, ValueError) as error:
        raise source_unreadable(name, error) from None
    if stat.S_ISDIR(status.st_mode):
        return _list_folder(path, pulse)
    if not stat.S_ISREG(status.st_mode):
        return Found([Source(printable(name), path)])
    return Found([Source(printable(name), path, status.st_size, stamp=stamp_of(status))])


def _matches(pattern: str, pulse: Pulse) -> list[str]:
    """The paths that match, sorted; the pulse counts them, and beats where nothing matches."""
    found: list[str] = []
    if glob.has_magic(pattern):
        with pulse.helped(lambda: len(found)):
            found += glob.iglob(pattern, recursive=True)  # noqa: PTH207 - takes absolute patterns
        pulse.progress(len(found))
    return sorted(found)


def _list_folder(folder: Path, pulse: Pulse) -> Found:
    names = {path.name for path in folder.iterdir()} if os.access(folder, os.R_OK) else set[str]()
    kind = kind_of_folder(names)
    if kind in (PassReason.MODEL, PassReason.RUN):
        flag = "--model" if kind is PassReason.MODEL else "--continue"
        raise UsageError(
            f"{folder} is {kind}, not data",
            cause=Cause.NOT_DATA,
            have=" and ".join(sorted(names)[:3]),
            need="text or conversations",
            remedies=(Remedy(f"{flag} {shlex.quote(str(folder))}", "trains it on data"),),
        )
    found = walk(folder, pulse, is_named=True)
    if not found:
        raise DataRefused(
            f"{folder} contains no files",
            cause=Cause.NO_USABLE_RECORDS,
            have="only hidden files, or links that lead outside it",
            need="at least one file of text or JSONL",
            remedies=(Remedy(f"ls -lA {shlex.quote(str(folder))}", "lists the folder"),),
        )
    return found


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
    shown = printable(name)
    return Boundary(
        f"cannot find data in {shown}",
        cause=Cause.SOURCE_UNREADABLE,
        need=_NEED,
        remedies=(Remedy("headway demo", "needs no data of yours"),),
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
    """Open a local file that is not a stream.

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
    if stamp_of(os.fstat(file.fileno())) != source.stamp:
        raise _changed(source)


def _changed(source: Source) -> ComeBack:
    assert source.path is not None
    copy = shlex.quote(f"{source.path.stem}-copy{source.path.suffix}")
    return ComeBack(
        f"{source.name} changed while it was being read",
        cause=Cause.SOURCE_CHANGED,
        have=f"not the file that was found before, which had {size(source.size)}",
        need="a file that does not change",
        remedies=(Remedy(f"cp {shlex.quote(source.name)} {copy}", "then train the copy"),),
    )


def _stream(source: Source, pulse: Pulse) -> Chunks:
    """The bytes as they arrive, unbuffered: a buffer would hold back the lines of a slow writer."""
    given = 0 if source.path is None else descriptor_of(str(source.path))
    if given is not None:
        descriptor = given  # at the place that its owner left it at, and left open
    else:
        assert source.path is not None
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
        if given is None:
            os.close(descriptor)
