"""Write whole or not at all: temp, fsync, rename; read back; checksums.

Every durable byte of a run goes through this module, so that one place decides
what "saved" means: on the disk, read back, and reachable under its name.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors, errors_from_rust
from headway.base.errors import Cause, MachineError, Remedy
from headway.base.units import size

MANIFEST = "manifest.json"
SCHEMA = "headway.manifest/1"


@dataclass(frozen=True)
class FileHash:
    """What a file must be: its bytes and their sha256."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Every file of a checkpoint with its size and hash; written last."""

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
    """Replace `path` by `content`, durably: after a power cut it is the old file or the new.

    Raises:
        MachineError: the disk is full, read-only or failing. The old file stands, or the new
            one whole; which of them a power cut would leave is not known.
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
    """Replace `path` whole but not durably: for what is written again in a second anyway."""
    temporary = _temporary(path)
    with contextlib.suppress(OSError):  # a disk in trouble is told by what must be durable
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            _discard(temporary)


def write_folder(final: Path, fill: Callable[[Path], None]) -> Manifest:
    """Let `fill` write into a temporary folder, make that durable, then give it its name.

    The order is the promise: every file synced, the manifest last, the folder synced, everything
    read back and hashed, one rename, the parent synced. Only then does this return. An error of
    any of these is final: nothing is tried a second time, since the system may have forgotten
    what it could not write, and would report success.

    Raises:
        MachineError: the disk is full, read-only or failing, or what was read back differs
            from what was written. Nothing appears under `final`.
    """
    make_folder(final.parent)
    with disk_errors(final):
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
        try:
            temporary.chmod(0o755)  # mkdtemp makes it private; a checkpoint is not a secret
            with errors_from_rust():
                fill(temporary)
            manifest = _seal(temporary)
            _read_back(temporary, final.name)
            temporary.rename(final)
            try:
                sync_folder(final.parent)
            except OSError:
                final.rename(temporary)  # what may be gone tomorrow must not be found today
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def delete_folder(folder: Path) -> None:
    """Delete a folder such that, killed half-way, no half of it stands under its name.

    What is left is hidden, `.NAME.*`, as a killed `write_folder` leaves it. A disk that refuses
    is let be: nothing was promised to be gone.
    """
    doomed = _temporary(folder)
    with contextlib.suppress(OSError):
        folder.rename(doomed)
    for left in (doomed, folder):
        shutil.rmtree(left, ignore_errors=True)


def verify_folder(folder: Path) -> list[FileProblem]:
    """Compare a folder with its manifest; an empty list if everything matches.

    The manifest may have been damaged or made by somebody else: the folder itself is listed, and
    only what lies in it is opened, never a name or a link that leads out of it. What the manifest
    does not name is wrong too (a loader might prefer it), but for hidden files, which file
    managers and NFS leave.
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
        manifest = msgspec.json.decode(_regular(manifest_file).read_bytes(), type=Manifest)
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
    """Size and sha256 of a file, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileHash(file.tell(), digest.hexdigest())


def hash_bytes(data: bytes) -> str:
    """The sha256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def append_line(path: Path, line: bytes) -> None:
    """Add one line by one O_APPEND write, so that several processes can share the file.

    A line that a full disk or a power cut tore is lost, and it alone: what was written behind it
    ends it, and is written once more.

    Raises:
        MachineError: the disk took none of it, or only a part.
    """
    whole = line + b"\n"
    with disk_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # A file that does not end in a line end may be torn, or another process is writing
            # to it this moment: only what stands before our own line is finished for sure.
            behind_torn = True
            while behind_torn:
                if os.write(descriptor, whole) < len(whole):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                begin = os.lseek(descriptor, 0, os.SEEK_CUR) - len(whole)
                behind_torn = begin > 0 and os.pread(descriptor, 1, begin - 1) != b"\n"
        finally:
            os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and the missing ones above it, durably; it may be there already.

    Raises:
        MachineError: it cannot be made.
    """
    with disk_errors(folder):
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)


def point(link: Path, target: Path) -> None:
    """Make the symbolic link `link` name `target`, a sibling, by one rename.

    Raises:
        MachineError: the disk is full, read-only or failing.
    """
    temporary = _temporary(link)
    with disk_errors(link):
        try:
            temporary.symlink_to(target.name)
            temporary.replace(link)
            sync_folder(link.parent)
        finally:
            _discard(temporary)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """A hidden name beside `path` that no other process or thread writes to now."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.tmp")
    _discard(temporary)  # a killed process with the same number left it
    return temporary


def _discard(temporary: Path) -> None:
    with contextlib.suppress(OSError):
        temporary.unlink()


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _seal(folder: Path) -> Manifest:
    """Make a folder's content durable, with a manifest of it."""
    files = {
        str(path.relative_to(folder)): _sealed(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
    manifest = Manifest(SCHEMA, files)
    _write_synced(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        sync_folder(place)
    return manifest


def _sealed(path: Path) -> FileHash:
    """Hash a file as it was written, and put it on the disk."""
    written = hash_file(path)
    with path.open("rb") as file:
        os.fchmod(file.fileno(), 0o644)  # safetensors makes its files private
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):  # macOS has none
            with contextlib.suppress(OSError):  # it is advice, and not every file system takes it
                # Without the copy in memory, reading back reads what the disk has.
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
            remedies=(Remedy("another disk for --output-dir", "this one loses bytes"),),
        )


def _difference(path: Path | None, expected: FileHash) -> str:
    """How a file differs from its entry in the manifest; "" if it matches."""
    if path is None:
        return "is missing"
    try:
        num_bytes = _regular(path).stat().st_size
        if num_bytes != expected.bytes:
            return f"has {size(num_bytes)}, {size(expected.bytes)} were written"
        if hash_file(path).sha256 != expected.sha256:
            return "has other bytes than were written (sha256)"
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return ""


def _regular(path: Path) -> Path:
    """The path of a file; a link could lead anywhere, and a pipe would be waited for."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.ELOOP, "it is a link or a device, not a file")
    return path


def cache_folder(*parts: str) -> Path:
    """Where what can be computed again is kept: $XDG_CACHE_HOME/headway, safe to delete."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home, "headway", *parts)


def cached_hash(path: Path) -> FileHash:
    """`hash_file`, remembered in the cache while size, time and inode of the file stay."""
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
