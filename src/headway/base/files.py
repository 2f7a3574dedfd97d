"""Durable files and folders: atomic replacement, fsync, manifests, checksums.

Every durable byte of a run goes through this module, so that one place decides what "saved" means:
on the disk, read back, and reachable under its name.
"""

import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import ELSEWHERE, disk_errors, errors_from_rust
from headway.base.errors import Cause, MachineError, Remedy
from headway.base.process_id import ProcessId
from headway.base.units import size

MANIFEST = "manifest.json"
SCHEMA = "headway.manifest/1"
_TEMPORARY = re.compile(r"\..+\.(\d{1,10})-\d+\.tmp")  # with the number of its process


@dataclass(frozen=True)
class FileHash:
    """Size and sha256 of a file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Every file of a folder with its size and hash; written last."""

    schema: str
    files: dict[str, FileHash]


@dataclass(frozen=True)
class FileProblem:
    """How a file differs from the manifest; as text, a sentence that begins with its name."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file} {self.what}"


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace a file atomically and durably: after a power cut it is the old file or the new one.

    Raises:
        MachineError: the disk is full, read-only or failing. The file is the old one or the
            complete new one; a power cut may leave either.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = _temporary(path)
    with disk_errors(path):
        try:
            _write_synced(temporary, data)
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            _discard(temporary)


def write_lightly(path: Path, content: bytes) -> None:
    """Replace a file atomically but not durably, for content that is soon rewritten."""
    temporary = _temporary(path)
    with contextlib.suppress(OSError):  # durable writes report a failing disk
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            _discard(temporary)


def write_folder(
    final: Path, fill: Callable[[Path], None], elsewhere: Remedy = ELSEWHERE
) -> Manifest:
    """Let `fill` write a temporary folder, make it durable, then rename it to `final`.

    The order matters: sync every file, write the manifest last, sync the folder, read everything
    back and hash it, rename, sync the parent. Errors are final: after a failed fsync the system may
    have dropped the data, and a second fsync would report success.

    Args:
        final: the folder's name.
        fill: writes its files into the folder that it is given.
        elsewhere: how to write to another disk.

    Raises:
        MachineError: the disk is full, read-only or failing, or the files read back differ from
            the files written. Nothing appears under `final`.
    """
    make_folder(final.parent, elsewhere)
    with disk_errors(final, elsewhere):
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            temporary.chmod(0o755)  # mkdtemp makes it private
            with errors_from_rust():
                fill(temporary)
            manifest = _seal(temporary)
            _read_back(temporary, final.name)
            temporary.rename(final)
            try:
                sync_folder(final.parent)
            except OSError:
                final.rename(temporary)  # the name may not survive a power cut: take it back
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def delete_folder(folder: Path) -> None:
    """Delete a folder; if killed halfway, no part of it remains under its name.

    Leftovers are hidden, `.NAME.*`, like those of a killed `write_folder`. Disk errors are ignored.
    """
    doomed = _temporary(folder)
    with contextlib.suppress(OSError):
        folder.rename(doomed)
    for left in (doomed, folder):
        shutil.rmtree(left, ignore_errors=True)


def verify_folder(folder: Path) -> list[FileProblem]:
    """Compare a folder with its manifest; an empty list if everything matches.

    The manifest is not trusted: only regular files inside the folder are opened, never a name or a
    link that leads out of it. A file that the manifest does not list is a problem too, since a
    loader might prefer it; hidden files, left by file managers and NFS, are ignored.
    """
    there = {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    manifest_file = there.pop(MANIFEST, None)
    if manifest_file is None:
        return [FileProblem(MANIFEST, "is missing")]
    try:
        manifest = msgspec.json.decode(regular_file(manifest_file).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return [FileProblem(MANIFEST, f"cannot be read: {error}")]
    if manifest.schema != SCHEMA:
        return [FileProblem(MANIFEST, f"is {manifest.schema}, this version reads {SCHEMA}")]
    problems = [
        FileProblem(name, what)
        for name, expected in manifest.files.items()
        if (what := _difference(there.pop(name, None), expected))
    ]
    unlisted = [n for n in there if not any(part.startswith(".") for part in Path(n).parts)]
    return problems + [FileProblem(name, f"is not in {MANIFEST}") for name in sorted(unlisted)]


def hash_file(path: Path) -> FileHash:
    """Size and sha256 of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileHash(file.tell(), digest.hexdigest())


def hash_bytes(data: bytes) -> str:
    """The sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def append_line(path: Path, line: bytes) -> None:
    """Append one line with one O_APPEND write, so that several processes can share the file.

    A line torn by a full disk or a power cut is lost, but no other: the next line is appended to
    the torn one and then written again.

    Raises:
        MachineError: the line was not written, or only in part.
    """
    whole = line + b"\n"
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # If the file does not end in a newline, it is torn or another process is writing. Only
            # the byte before our own line is certain to be final.
            behind_torn = True
            while behind_torn:
                if os.write(descriptor, whole) < len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                begin = os.lseek(descriptor, 0, os.SEEK_CUR) - len(whole)
                behind_torn = begin > 0 and os.pread(descriptor, 1, begin - 1) != b"\n"
        finally:
            os.close(descriptor)


def make_folder(folder: Path, elsewhere: Remedy = ELSEWHERE) -> None:
    """Create a folder and its missing parents, durably; it may exist already.

    Raises:
        MachineError: it cannot be created.
    """
    with disk_errors(folder, elsewhere):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)


def replace_link(link: Path, target: Path) -> None:
    """Point the symbolic link `link` to its sibling `target`, atomically and durably.

    Raises:
        MachineError: the disk is full, read-only or failing.
    """
    replace_link_text(link, target.name)


def replace_link_text(link: Path, text: str) -> None:
    """Point the symbolic link `link` to a path, relative to its folder, atomically and durably.

    Raises:
        MachineError: the disk is full, read-only or failing.
    """
    temporary = _temporary(link)
    with disk_errors(link):
        try:
            temporary.symlink_to(text)
            temporary.replace(link)
            sync_folder(link.parent)
        finally:
            _discard(temporary)


def sync_folder(folder: Path) -> None:
    """Make the entries of `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """A hidden sibling of `path` that no other process or thread uses."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    _discard(temporary)  # left by a killed process with the same id
    return temporary


def delete_temporaries(folder: Path) -> None:
    """Delete what killed processes left half written in a folder, as far as that can be done.

    What a running process writes stays. One on another machine is not seen: it writes again.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp"):
            found = _TEMPORARY.fullmatch(path.name)
            if found and ProcessId.of(int(found[1])) is None:
                _discard(path)


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _seal(folder: Path) -> Manifest:
    """Write the manifest of a folder, and make everything in it durable."""
    files = {
        str(path.relative_to(folder)): _hash_and_sync(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    manifest = Manifest(SCHEMA, files)
    _write_synced(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(place)
    return manifest


def _hash_and_sync(path: Path) -> FileHash:
    """Hash a file, then write it to the disk."""
    written = hash_file(path)
    with path.open("rb") as file:
        os.fchmod(file.fileno(), 0o644)  # safetensors creates private files
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # not on macOS
            with contextlib.suppress(OSError):  # not every file system accepts it
                # Drop the cached copy, so that reading back reads from the disk.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return written


def _read_back(folder: Path, name: str) -> None:
    problems = verify_folder(folder)
    if problems:
        raise MachineError(
            f"{name} does not read back as it was written",
            cause=Cause.READ_BACK_FAILED,
            have=str(problems[0]),
            need="the bytes that were written",
            remedies=(Remedy("--output-dir DIR", "a folder on another disk: this one loses data"),),
        )


def _difference(path: Path | None, expected: FileHash) -> str:
    """How a file differs from its entry in the manifest; "" if it matches."""
    if path is None:
        return "is missing"
    try:
        num_bytes = regular_file(path).stat().st_size
        if num_bytes != expected.bytes:
            return f"has {size(num_bytes)}, {size(expected.bytes)} were written"
        if hash_file(path).sha256 != expected.sha256:
            return "differs from what was written (sha256)"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return ""


def regular_file(path: Path) -> Path:
    """The path, if it is a regular file: a link can lead anywhere, a pipe can block.

    Raises:
        OSError: it is something else, or missing.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.ELOOP, "not a regular file")
    return path


def unused_path(path: Path, suffix: str = "") -> Path:
    """The path, or the first of NAME-2, NAME-3 and so on where nothing is.

    Args:
        path: as it is wanted.
        suffix: of its name, which stays at the end.
    """
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name.removesuffix(suffix)}-{number}{suffix}")
    return found


def cache_folder(*parts: str) -> Path:
    """A folder in $XDG_CACHE_HOME/headway, for data that is safe to delete.

    Raises:
        MachineError: this user has no home folder.
    """
    home = os.environ.get("XDG_CACHE_HOME") or str(_home() / ".cache")
    return Path(home, "headway", *parts)


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise MachineError(
            f"user {os.getuid()} has no home folder",
            cause=Cause.NOT_WRITABLE,
            have="no HOME, and no entry in passwd",
            need="a folder for cached data",
            remedies=(
                Remedy("export HOME=$PWD", "keeps it in the working folder"),
                Remedy("export XDG_CACHE_HOME=DIR", "keeps it in DIR"),
            ),
        ) from error


def cached_hash(path: Path) -> FileHash:
    """`hash_file`, cached while size, time and inode of the file do not change."""
    now = path.stat()
    key = f"{path.resolve()}|{now.st_size}|{now.st_mtime_ns}|{now.st_ino}|{now.st_dev}"
    note = cache_folder("hashes", hash_bytes(key.encode())[:32])
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(note.read_bytes(), type=FileHash)
    found = hash_file(path)
    with contextlib.suppress(OSError, MachineError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, msgspec.json.encode(found))
    return found
