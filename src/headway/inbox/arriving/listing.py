"""Listing of an inbox: names, kinds, sizes and writers, with no link followed."""

import contextlib
import fcntl
import hashlib
import os
import signal
import stat
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

from headway.base.files import hash_file
from headway.inbox.arriving.arrivals import ArrivalKind, FileWriter, Listed, ProbedFile

_KINDS = {
    stat.S_IFREG: ArrivalKind.FILE,
    stat.S_IFDIR: ArrivalKind.FOLDER,
    stat.S_IFLNK: ArrivalKind.LINK,
    stat.S_IFIFO: ArrivalKind.PIPE,
    stat.S_IFSOCK: ArrivalKind.SOCKET,
}
# Formats that say by themselves where they end; a line without an end means nothing in them.
_NO_LINES = (".parquet", ".arrow", ".feather", ".gz", ".zst", ".bz2", ".xz", ".zip")
_MOST_PROBED = 1000  # files of a folder


def list_inbox(folder: Path) -> list[Listed]:
    """Everything in the folder; what vanishes meanwhile is left out."""
    found: list[Listed] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                found.append(look_at(Path(entry.path)))
    return found


def look_at(path: Path) -> Listed:
    """One name, as it is now.

    Raises:
        OSError: it is gone.
    """
    status = path.lstat()
    kind = _KINDS.get(stat.S_IFMT(status.st_mode), ArrivalKind.DEVICE)
    if not _is_text(path.name):
        kind = ArrivalKind.UNNAMED
    if kind is ArrivalKind.FOLDER:
        return _look_at_folder(path, status)
    return Listed(path.name, kind, _stamp(status), status.st_mtime_ns, status.st_size)


def probe(path: Path, kind: ArrivalKind) -> ProbedFile:
    """Whether a file, or one in a folder, is open for writing, and whether its last line ends."""
    if kind is ArrivalKind.FILE:
        return ProbedFile(writer_of(path), _ends_whole(path))
    files = [file for number, file in enumerate(_files(path)) if number < _MOST_PROBED]
    writers = {writer_of(file) for file in files}
    for found in (FileWriter.ACTIVE, FileWriter.UNKNOWN):
        if found in writers:
            return ProbedFile(found)
    return ProbedFile(FileWriter.NONE)


def writer_of(path: Path) -> FileWriter:
    """Whether a program has a file open for writing: if so, the kernel grants no read lease."""
    if not hasattr(fcntl, "F_SETLEASE"):  # not Linux
        return FileWriter.UNKNOWN
    try:
        descriptor = _open(path)
    except OSError:
        return FileWriter.UNKNOWN
    try:
        with no_sigio():
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return FileWriter.NONE
    except BlockingIOError:
        return FileWriter.ACTIVE
    except OSError:  # another owner's file, or a file system without leases
        return FileWriter.UNKNOWN
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def no_sigio() -> Generator[None]:
    """Ignore the signal of a program that opens the file while it is leased: it would end us."""
    if threading.current_thread() is not threading.main_thread():
        raise PermissionError  # signals are the main thread's: nothing can be told here
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before or signal.SIG_DFL)


def content_hash(path: Path) -> str:
    """The sha256 of a file's bytes; of a folder, over the names and hashes of its files.

    Raises:
        OSError: it cannot be read.
    """
    if not path.is_dir() or path.is_symlink():
        return hash_file(path).sha256
    digest = hashlib.sha256()
    for file in sorted(_files(path), key=os.fspath):
        name = os.fsencode(file.relative_to(path))
        digest.update(name + b"\0" + hash_file(file).sha256.encode() + b"\n")
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """The regular files in a folder, at any depth; links are not followed."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(OSError):
                if stat.S_ISREG(path.lstat().st_mode):
                    yield path


def _look_at_folder(path: Path, status: os.stat_result) -> Listed:
    stamps = [file.lstat() for file in _files(path)]
    newest = max((one.st_mtime_ns for one in stamps), default=status.st_mtime_ns)
    changed = max((one.st_ctime_ns for one in stamps), default=status.st_ctime_ns)
    size = sum(one.st_size for one in stamps)
    stamp = (len(stamps), size, newest, changed, status.st_ino, status.st_dev)
    return Listed(path.name, ArrivalKind.FOLDER, stamp, newest, size, len(stamps))


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """What changes with the content, and not when the file is renamed."""
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


def _ends_whole(path: Path) -> bool:
    """Whether a text's last byte ends a line or a JSON value; True for what has no lines."""
    if path.suffix.lower() in _NO_LINES:
        return True
    try:
        descriptor = _open(path)
        try:
            end = os.lseek(descriptor, 0, os.SEEK_END)
            return not end or os.pread(descriptor, 1, end - 1) in (b"\n", b"\r", b"}", b"]")
        finally:
            os.close(descriptor)
    except OSError:  # told when it is read
        return True


def _open(path: Path) -> int:
    """A descriptor to read from; a pipe or a link that took the file's place is not waited for."""
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
