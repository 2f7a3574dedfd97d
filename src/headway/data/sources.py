"""Where records come from: files, folders, object stores, hub streams; says where it is.

This version reads local files and streams; what their bytes mean is up to `formats.py`.
"""

import difflib
import glob
import os
import re
import select
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path

from headway.base.errors import ComeBack, DataRefused, Problems, Refusal, Remedy, UsageError
from headway.base.pulse import Pulse
from headway.base.units import plural, size
from headway.data.source import STANDARD_INPUT, Chunks, Source

_CHUNK_BYTES = 1 << 20
_LOOK_MS = 500  # a wait looks up this often, to show that it is one
_NEED = "a file, a folder, a pattern, or - for standard input"


def find(sources: Sequence[str]) -> list[Source]:
    """The files and streams that were named: in the order given, inside a folder by path.

    Raises:
        UsageError: a name that is no local file, folder, pattern or `-`; a model's folder.
        DataRefused: a folder without files.
        Problems: several of these.
    """
    if not sources or not all(sources):
        remedy = Remedy("headway demo", "trains on text that this machine already has")
        raise UsageError("no data was named", need=_NEED, remedies=(remedy,))
    found: list[Source] = []
    problems: list[Refusal] = []
    for name in sources:
        try:
            found += _expanded(name)
        except Refusal as refusal:
            problems.append(refusal)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    return found


def _expanded(name: str) -> list[Source]:
    if name == "-":
        return [Source(STANDARD_INPUT, None)]
    if re.match(r"[a-z0-9]+://", name):
        raise _remote(name)
    path = Path(name)
    try:
        status = path.stat()
    except FileNotFoundError:
        # Path.glob takes no absolute pattern
        matches = glob.glob(name, recursive=True) if glob.has_magic(name) else []  # noqa: PTH207
        found = [source for match in sorted(matches) for source in _walked(Path(match))]
        if found:
            return found
        raise _missing(name) from None
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
            have="nothing that is not hidden",
            need="at least one file of text or JSONL",
            remedies=(Remedy(f"ls -lA {shlex.quote(str(folder))}", "what is there"),),
        )
    return found


def _walked(path: Path) -> list[Source]:
    """A file, or the files below a folder, without what is hidden or made by Python."""

    def refuse(error: OSError) -> None:
        raise unreadable(_printable(str(error.filename)), error) from error

    files = [] if path.is_dir() else [path]
    for place, folders, names in os.walk(path, onerror=refuse) if path.is_dir() else ():
        folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
        files += [Path(place, name) for name in names if name[0] != "."]
    found: list[Source] = []
    for file in sorted(files):
        if file.is_file():
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


def _remote(name: str) -> UsageError:
    scheme, _, rest = name.partition("://")
    fetch = {
        "hf": f"hf download {rest} --repo-type dataset --local-dir {rest.rpartition('/')[2]}",
        "s3": f"aws s3 cp --recursive {name} data",
        "http": f"curl -LO {shlex.quote(name)}",
        "https": f"curl -LO {shlex.quote(name)}",
    }
    return UsageError(
        f"{name} is not on this machine",
        have=f"an address ({scheme})",
        need="a file or folder: this version reads local files only",
        remedies=(Remedy(fetch.get(scheme, "copy it here"), "then train its text or JSONL files"),),
    )


def _missing(name: str) -> UsageError:
    """No such path: the nearest one that exists, or how to fetch what looks like a hub's name."""
    path = Path(name)
    above = next(place for place in path.parents if place.is_dir())
    lost = path.relative_to(above).parts
    there = [entry.name for entry in above.iterdir()] if os.access(above, os.R_OK) else []
    near = [above / match for match in difflib.get_close_matches(lost[0], there)]
    whole = [place.joinpath(*lost[1:]) for place in near]
    remedies = [
        Remedy(shlex.quote(str(full if full.exists() else part)))
        for full, part in zip(whole, near, strict=True)
    ]
    need = _NEED
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and len(lost) == 2:
        need += "; this version reads local files only, not a hub's data sets"
        remedies += _remote(f"hf://{name}").remedies
    return UsageError(
        f"{name}: " + ("nothing matches" if glob.has_magic(name) else "no such file or folder"),
        have=f"{plural(len(there), 'name')} in {above.absolute()}",
        need=need,
        remedies=tuple(remedies) or (Remedy(f"ls {shlex.quote(str(above))}", "what is there"),),
    )


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


def chunks(source: Source, pulse: Pulse) -> Chunks:
    """The content in pieces, as it arrives; None before every wait for a stream.

    Whoever gathers records can so use what it has before the source is silent.

    Raises:
        ComeBack: the file changed while it was being read.
        OSError: it cannot be opened or read.
    """
    return _stream(source, pulse) if source.is_stream else _file(source)


def _file(source: Source) -> Chunks:
    assert source.path is not None
    with source.path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
        if _stamp(os.fstat(file.fileno())) == source.stamp:
            return
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
                yield None
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
