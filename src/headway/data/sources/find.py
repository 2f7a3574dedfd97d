"""Where records come from: files, folders, object stores, hub streams; says where it is.

What is elsewhere is up to a room of its own for each kind of address; what the bytes mean, to
`formats.py`.
"""

import difflib
import glob
import os
import re
import select
import shlex
import stat
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import BinaryIO

from headway.base.errors import ComeBack, DataRefused, Problems, Refusal, Remedy, UsageError
from headway.base.hub import is_id
from headway.base.pulse import Pulse
from headway.base.units import plural, size
from headway.data.sources import http as web
from headway.data.sources import hub_dataset as hub
from headway.data.sources import s3
from headway.data.sources.seekable import seekable
from headway.data.sources.source import STANDARD_INPUT, Chunks, Source

_CHUNK_BYTES = 1 << 20
_LOOK_MS = 500  # a wait looks up this often, to show that it is one
_NEED = "a file, a folder, a pattern, an address, or - for standard input"
_FILES = re.compile(r"\.(txt|md|jsonl?|ndjson|csv|tsv|parquet|gz|zst|bz2|xz)$", re.IGNORECASE)


def find(
    sources: Sequence[str], *, endpoint_url: str | None = None, pulse: Pulse | None = None
) -> list[Source]:
    """The files and streams that were named: in the order given, inside a folder by path.

    Args:
        sources: files, folders, patterns, `-`, http(s)://, s3://, hf:// or a hub's owner/name.
        endpoint_url: of the S3-compatible store that s3:// means.
        pulse: told while something elsewhere is waited for.

    Raises:
        UsageError: a name that is none of these, or not to be read; a model's folder.
        DataRefused: a folder without files.
        ComeBack: what is elsewhere does not answer.
        Problems: several of these.
    """
    if not sources or not all(sources):
        remedy = Remedy("headway demo", "trains on text that this machine already has")
        raise UsageError("no data was named", need=_NEED, remedies=(remedy,))
    found: list[Source] = []
    problems: list[Refusal] = []
    for name in sources:
        try:
            found += _expanded(name, endpoint_url or "", pulse or Pulse())
        except Refusal as refusal:
            problems.append(refusal)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    return found


def _expanded(name: str, endpoint: str, pulse: Pulse) -> list[Source]:
    if name == "-":
        return [Source(STANDARD_INPUT, None)]
    scheme = re.match(r"([A-Za-z0-9+.-]+)://", name)
    match scheme and scheme[1].lower():
        case None:
            return _local(name, pulse)
        case "http" | "https":
            return [web.find(name, pulse)]
        case "s3":
            return s3.find(name, endpoint, pulse)
        case "hf":
            return hub.find(name, pulse)
        case other:
            raise _no_such_scheme(name, other)


def _local(name: str, pulse: Pulse) -> list[Source]:
    path = Path(name)
    try:
        status = path.stat()
    except FileNotFoundError:
        # Path.glob takes no absolute pattern
        matches = glob.glob(name, recursive=True) if glob.has_magic(name) else []  # noqa: PTH207
        found = [source for match in sorted(matches) for source in _walked(Path(match))]
        if found:
            return found
        if not is_id(name) or path.parent.is_dir() or _FILES.search(name):
            raise _missing(name) from None
        return _on_hub(name, pulse)
    except (OSError, ValueError) as error:
        raise unreadable(name, error) from None
    if stat.S_ISDIR(status.st_mode):
        return _folder(path)
    if not stat.S_ISREG(status.st_mode):
        return [Source(_printable(name), path)]
    return [Source(_printable(name), path, status.st_size, stamp=_stamp(status))]


def _folder(folder: Path) -> list[Source]:
    weights = sorted(folder.glob("*.safetensors"))
    if weights and (folder / "config.json").exists():
        raise UsageError(
            f"{folder} is a model, not data",
            have=f"config.json and {weights[0].name}",
            need="text or conversations",
            remedies=(Remedy(f"--model {shlex.quote(str(folder))}", "trains it on data"),),
        )
    found = _walked(folder)
    if not found:
        raise DataRefused(
            f"{folder} holds no files",
            have="no file that is neither hidden nor a link out of it",
            need="at least one file of text or JSONL",
            remedies=(Remedy(f"ls -lA {shlex.quote(str(folder))}", "what is there"),),
        )
    return found


def _walked(path: Path) -> list[Source]:
    """A file, or the files below a folder: not what is hidden, made by Python or outside of it."""

    def refuse(error: OSError) -> None:
        raise unreadable(_printable(str(error.filename)), error) from error

    files = [] if path.is_dir() else [path]
    for place, folders, names in os.walk(path, onerror=refuse) if path.is_dir() else ():
        folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
        files += [Path(place, name) for name in names if name[0] != "."]
    found: list[Source] = []
    inside = path.resolve()
    for file in sorted(files):
        leads_out = file.is_symlink() and not file.resolve().is_relative_to(inside)
        if file.is_file() and (file == path or not leads_out):
            status = file.stat()
            name = _printable(str(file))
            found.append(Source(name, file, status.st_size, True, _stamp(status)))
    return found


def _printable(name: str) -> str:
    """Names on disk are any bytes; what is printed and logged is not."""
    return os.fsencode(name).decode(errors="replace")


def _stamp(status: os.stat_result) -> tuple[int | str, ...]:
    times = status.st_mtime_ns, status.st_ctime_ns
    return status.st_size, *times, status.st_ino, status.st_dev


def _on_hub(name: str, pulse: Pulse) -> list[Source]:
    """What no path here is may be a data set of the hub; or a slip of the pen."""
    try:
        return hub.find(name, pulse)
    except Refusal as refusal:
        near = tuple(map(Remedy, _near(Path(name))))
        if near:
            refusal.remedies = near + refusal.remedies
        raise


def _no_such_scheme(name: str, scheme: str) -> UsageError:
    close = difflib.get_close_matches(scheme, ("https", "http", "s3", "hf"), n=1)
    rest = name.partition("://")[2]
    # what stands before an @ may be a password
    return UsageError(
        f"{scheme}:// is no kind of address that is read here",
        have=f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}",
        need="https://, s3:// or hf://",
        remedies=(Remedy(f"{close[0]}://..."),)
        if close
        else (Remedy("copy it here", "then train its text or JSONL files"),),
    )


def _missing(name: str) -> UsageError:
    """No such path: the nearest one that exists."""
    above = _above(Path(name))
    there = _names(above)
    near = tuple(map(Remedy, _near(Path(name))))
    return UsageError(
        f"{name}: " + ("nothing matches" if glob.has_magic(name) else "no such file or folder"),
        have=f"{plural(len(there), 'name')} in {above.absolute()}",
        need=_NEED,
        remedies=near or (Remedy(f"ls {shlex.quote(str(above))}", "what is there"),),
    )


def _above(path: Path) -> Path:
    return next(place for place in path.parents if place.is_dir())


def _names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()] if os.access(folder, os.R_OK) else []


def _near(path: Path) -> list[str]:
    """Paths that exist and are spelt much like one that does not."""
    above = _above(path)
    lost = path.relative_to(above).parts
    near = [above / match for match in difflib.get_close_matches(lost[0], _names(above))]
    whole = [place.joinpath(*lost[1:]) for place in near]
    nearest = (full if full.exists() else part for full, part in zip(whole, near, strict=True))
    return [shlex.quote(str(place)) for place in nearest]


def unreadable(name: str, error: OSError | ValueError) -> UsageError:
    """The system does not let this user read it."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UsageError(
        f"{name} cannot be read",
        have=reason,
        need=f"a file that user {os.getuid()} may read",
        remedies=(Remedy(f"ls -ld {shlex.quote(name)}", "whose it is"),),
    )


# ---- bytes -----------------------------------------------------------------------------------


def chunks(source: Source, pulse: Pulse, begin: int = 0) -> Chunks:
    """The content from a byte on, as it arrives.

    Raises:
        ComeBack: it changed while it was being read, or does not arrive.
        UsageError: what is elsewhere is gone, or not to be read any more.
        OSError: it cannot be opened or read.
    """
    if source.is_stream:
        assert not begin, "a stream is read once, from its beginning"
        return _stream(source, pulse)
    if source.path is not None:
        return _file(source, begin)
    room = s3 if source.address.startswith("s3:") else web
    return room.chunks(source, pulse, begin)


def open_seekable(source: Source, pulse: Pulse) -> BinaryIO:
    """A file that can be read anywhere in it, for formats whose table of contents comes last.

    Raises:
        UsageError: a stream, or a server that gives whole files only.
        OSError: it cannot be opened.
    """
    if source.path is not None and not source.is_stream:
        return source.path.open("rb")
    room = s3 if source.address.startswith("s3:") else web
    if source.is_stream or not source.size or (room is web and not web.gives_parts(source, pulse)):
        raise _not_seekable(source)
    return seekable(source, lambda begin, end: room.chunks(source, pulse, begin, end))


def _not_seekable(source: Source) -> UsageError:
    fetch = f"curl -Lo data{Path(source.name).suffix} {shlex.quote(source.name)}"
    return UsageError(
        f"{source.name} can only be read from its beginning to its end",
        have="a stream" if source.is_stream else "a server that gives whole files only",
        need="a file: this format has its table of contents at the end",
        remedies=(Remedy(fetch if source.address else "keep it in a file", "then train that"),),
    )


def _file(source: Source, begin: int) -> Chunks:
    assert source.path is not None
    with source.path.open("rb", buffering=0) as file:
        file.seek(begin)
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
        check_unchanged(source, file)


def check_unchanged(source: Source, file: FileIO) -> None:
    """See that an open file is still what it was when it was found.

    Raises:
        ComeBack: it is not.
    """
    if _stamp(os.fstat(file.fileno())) == source.stamp:
        return
    assert source.path is not None
    copy = shlex.quote(f"{source.path.stem}-copy{source.path.suffix}")
    raise ComeBack(
        f"{source.name} changed while it was being read",
        have=f"a file that is still written to, {size(source.size)} when it was found",
        need="a file that stays as it is",
        remedies=(Remedy(f"cp {shlex.quote(source.name)} {copy}", "and train the copy"),),
    )


def _stream(source: Source, pulse: Pulse) -> Chunks:
    """What has arrived, at once: reading ahead would hide a slow writer's lines."""
    if source.path is None:
        descriptor = 0
    else:
        # Not blocking: opening a pipe would wait for its writer, and say nothing meanwhile.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        arrived = select.poll()
        arrived.register(descriptor, select.POLLIN)
        while True:
            if not arrived.poll(0):
                with pulse.waiting(source.name):
                    while not arrived.poll(_LOOK_MS):
                        pulse.beat()
            chunk = os.read(descriptor, _CHUNK_BYTES)
            if not chunk:
                return
            yield chunk
    finally:
        if source.path is not None:
            os.close(descriptor)
