"""Write whole or not at all: temp, fsync, rename; locks; checksums.

Every durable byte of a run goes through this module, so that one place decides
what "saved" means: on the disk, read back, and reachable under its name.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import resource
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.errors import ComeBack, MachineError, Remedy
from headway.base.units import size

MANIFEST = "manifest.json"


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


def write_whole(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content`, durably: after a power cut it is the old file or the new.

    Raises:
        MachineError: the disk is full, read-only or failing; the old file stands.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with disk_errors(path):
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_lightly(path: Path, content: bytes) -> None:
    """Replace `path` whole but not durably: for what is written again in a second anyway."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):  # a disk in trouble is told by what must be durable
        temporary.write_bytes(content)
        temporary.replace(path)


def write_folder(final: Path, fill: Callable[[Path], None]) -> Manifest:
    """Let `fill` write into a temporary folder, make that durable, then give it its name.

    The order is the promise: every file synced, the manifest last, the folder synced, everything
    read back and hashed, one rename, the parent synced. Only then does this return.

    Raises:
        MachineError: the disk is full, read-only or failing, or what was read back differs
            from what was written. Nothing appears under `final`.
    """
    make_folder(final.parent)
    with disk_errors(final):
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        with disk_errors(final):
            temporary.chmod(0o755)  # mkdtemp makes it private; a checkpoint is not a secret
            fill(temporary)
            manifest = _seal(temporary)
            problems = verify_folder(temporary)
            if problems:
                raise MachineError(
                    f"{final.name} does not read back as it was written",
                    have=problems[0],
                    need="the bytes that were written",
                    remedies=(Remedy("another disk for --output-dir", "this one loses bytes"),),
                )
            temporary.rename(final)
            sync_folder(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest


def verify_folder(folder: Path) -> list[str]:
    """What is wrong with a folder that carries a manifest; an empty list when it verifies."""
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]
    problems: list[str] = []
    for name, expected in manifest.files.items():
        try:
            found = hash_file(folder / name)
        except OSError as error:
            problems.append(f"{name}: {os.strerror(error.errno or 0)}")
            continue
        if found.bytes != expected.bytes:
            problems.append(f"{name} has {size(found.bytes)}, {size(expected.bytes)} were written")
        elif found.sha256 != expected.sha256:
            problems.append(f"{name} has other bytes than were written (sha256)")
    return problems


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

    Raises:
        MachineError: the disk took none of it, or only a part.
    """
    with disk_errors(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            if os.write(descriptor, line + b"\n") <= len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
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
    """Make the symbolic link `link` name `target`, a sibling, by one rename."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    with disk_errors(link):
        temporary.symlink_to(target.name)
        temporary.replace(link)
        sync_folder(link.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path, need_bytes: int = 0) -> None:
    """Try to write where the run will write, creating nothing that stays.

    Raises:
        MachineError: the folder (or the nearest one above it that exists) takes no file,
            or has less than `need_bytes` free.
    """
    with disk_errors(folder):
        place = _nearest(folder.absolute())
    if not place.is_dir():
        raise MachineError(
            f"{place} is a file, a folder is needed",
            have="a file",
            need="a folder to write runs into",
            remedies=(Remedy("--output-dir runs2", "another folder"),),
        )
    with disk_errors(folder), tempfile.TemporaryFile(dir=place):
        pass
    free = shutil.disk_usage(place).free
    if free < need_bytes:
        raise MachineError(
            f"not enough disk for the checkpoints in {folder}",
            have=f"{size(free)} free",
            need=f"{size(need_bytes)}",
            remedies=(
                Remedy("--output-dir DIR", "a folder on a larger disk"),
                Remedy("--save-total-limit 1", "keep one checkpoint"),
            ),
        )


@contextmanager
def disk_errors(path: Path) -> Generator[None]:
    """Turn what the operating system says about a disk into four parts.

    Raises:
        MachineError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        place = path.parent if path.parent != Path() else Path.cwd()
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MachineError(
                f"the disk is full: {path} was not written",
                have=f"{size(shutil.disk_usage(_nearest(place)).free)} free",
                need="room for one more checkpoint",
                remedies=(Remedy("--output-dir DIR", "a folder on another disk"),),
            ) from error
        if error.errno == errno.EFBIG:
            raise MachineError(
                f"{path} is larger than this process may write",
                have=f"at most {size(resource.getrlimit(resource.RLIMIT_FSIZE)[0])} a file",
                need="no limit on the size of files",
                remedies=(Remedy("ulimit -f unlimited", "in the shell that starts it"),),
            ) from error
        refused = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
        raise MachineError(
            f"{path} cannot be written",
            have=reason,
            need=f"a folder that user {os.getuid()} may write to"
            if refused
            else "a folder that takes what is written to it",
            remedies=(Remedy("--output-dir DIR", "a folder of your own, or on another disk"),),
        ) from error


def _nearest(path: Path) -> Path:
    return next((p for p in (path, *path.parents) if p.exists()), Path("/"))


def _seal(folder: Path) -> Manifest:
    files: dict[str, FileHash] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[str(path.relative_to(folder))] = hash_file(path)
    manifest = Manifest("headway.manifest/1", files)
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    with (folder / MANIFEST).open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    for place in sorted({p.parent for p in folder.rglob("*")} | {folder}):
        sync_folder(place)
    return manifest


@dataclass(frozen=True)
class Owner:
    """Who holds a run: written into run.lock, for people and for `status`."""

    pid: int
    host: str
    live: str  # the folder with this job's pulses


class Lock:
    """One live owner per run folder, by flock: the kernel frees it when the owner dies.

    Example:
        with Lock(folder / "run.lock", live="/dev/shm/...") as lock: ...
    """

    def __init__(self, path: Path, live: str = "") -> None:
        self.path = path
        self.live = live
        self.broken_owner: Owner | None = None  # a dead owner whose lock was taken over
        self._descriptor = -1

    def __enter__(self) -> "Lock":
        """Take the lock or refuse.

        Raises:
            ComeBack: somebody alive holds it.
        """
        with disk_errors(self.path):
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        before = owner_of(self.path)
        if not _taken(self._descriptor):
            os.close(self._descriptor)
            raise ComeBack(
                f"{self.path.parent} is being trained already",
                have=f"process {before.pid} on {before.host}" if before else "another process",
                need="one owner per run",
                remedies=(
                    Remedy(f"headway status {self.path.parent}", "what it is doing"),
                    Remedy(f"headway stop {self.path.parent}", "save and stop it"),
                ),
            )
        self.broken_owner = before
        owner = Owner(os.getpid(), socket.gethostname(), self.live)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, msgspec.json.encode(owner), 0)
        return self

    def __exit__(self, *_: object) -> None:
        # Empty, not unlinked: unlinking a lock file races with the next owner.
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _taken(descriptor: int) -> bool:
    """Take the lock; whoever merely looks whether it is held (`is_held`) has it for an instant."""
    for wait_s in (0.01, 0.02, 0.04, 0.0):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(wait_s)
    return False


def owner_of(lock: Path) -> Owner | None:
    """Who wrote itself into the lock last, alive or dead; None when it was given back."""
    try:
        return msgspec.json.decode(lock.read_bytes(), type=Owner)
    except (OSError, msgspec.DecodeError):
        return None


def is_held(lock: Path) -> bool:
    """Whether a live process of this machine holds the lock."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def cache_folder(*parts: str) -> Path:
    """Where what can be computed again is kept: $XDG_CACHE_HOME/headway, safe to delete."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home, "headway", *parts)


def cached_hash(path: Path) -> FileHash:
    """`hash_file`, remembered in the cache while size, time and inode of the file stay."""
    stat = path.stat()
    key = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ino}|{stat.st_dev}"
    note = cache_folder("hashes", hash_bytes(key.encode())[:32])
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(note.read_bytes(), type=FileHash)
    found = hash_file(path)
    with contextlib.suppress(OSError, MachineError):
        note.parent.mkdir(parents=True, exist_ok=True)
        write_whole(note, msgspec.json.encode(found))
    return found
