"""Inbox folder: its places, and the durable changes that are made in it."""

import os
import shlex
import stat
from dataclasses import dataclass
from pathlib import Path

from headway.base.disk import disk_errors
from headway.base.errors import Cause, Remedy, UsageError
from headway.base.files import (
    delete_temporaries,
    make_folder,
    replace_link_text,
    sync_folder,
    write_whole,
)
from headway.config.run_name import append_to_name

RECEIPT, ERROR = ".receipt.json", ".error.txt"
_MAX_NAME = (
    180  # bytes of a name: what stands beside it has a longer one, on the way a longer still
)


@dataclass(frozen=True)
class InboxFolder:
    """The places in an inbox. Looking at it changes nothing.

    Attributes:
        path: of the inbox, absolute.
    """

    path: Path

    @property
    def processing(self) -> Path:
        """Holds what is being trained."""
        return self.path / "processing"

    @property
    def done(self) -> Path:
        """Holds what was learned, each with its receipt."""
        return self.path / "done"

    @property
    def failed(self) -> Path:
        """Holds what was not learned, each with its error."""
        return self.path / "failed"

    @property
    def current_model(self) -> Path:
        """A link to the model as it is after everything in `done`."""
        return self.path / "current_model"

    @property
    def settings(self) -> Path:
        """How files are trained."""
        return self.path / "headway.yaml"

    @property
    def state(self) -> Path:
        """What the inbox itself keeps."""
        return self.path / ".headway"

    @property
    def jobs(self) -> Path:
        """Holds a record of every file that was taken."""
        return self.state / "jobs"

    @property
    def runs(self) -> Path:
        """Holds a run for every file that was trained."""
        return self.state / "runs"

    @property
    def lock(self) -> Path:
        """Locked by the daemon."""
        return self.state / "inbox.lock"

    @property
    def work_lock(self) -> Path:
        """Locked while a file is taken, trained or moved."""
        return self.state / "work.lock"

    @property
    def paused(self) -> Path:
        """There while the inbox is paused."""
        return self.state / "paused.json"

    @property
    def first_model(self) -> Path:
        """The model that the inbox began with."""
        return self.state / "first_model.json"

    @property
    def index(self) -> Path:
        """The records as a database; made again whenever it is missing."""
        return self.state / "index.sqlite"

    @property
    def daemon(self) -> Path:
        """What the daemon does, and since when."""
        return self.state / "daemon.json"

    @property
    def is_inbox(self) -> bool:
        """Whether a daemon was started here once."""
        return self.jobs.is_dir()

    def make(self) -> None:
        """Make the folders that are missing.

        Raises:
            UsageError: one of them is a link, or no folder.
            MachineError: they cannot be made.
        """
        self.check()
        for place in self._places():
            make_folder(place, Remedy("headway inbox start DIR", "a folder of your own"))

    def check(self) -> None:
        """Check that no place leads out of the inbox.

        Raises:
            UsageError: one of them is a link, or no folder.
        """
        for place in self._places():
            try:
                status = place.lstat()
            except FileNotFoundError:
                continue
            if place != self.path and not stat.S_ISDIR(status.st_mode):
                raise _no_place(place)

    def delete_leftovers(self) -> None:
        """Delete what was half written when a process was killed."""
        for place in (*self._places(), *self.runs.glob("*/")):
            delete_temporaries(place)

    def _places(self) -> tuple[Path, ...]:
        own = self.processing, self.done, self.failed
        return self.path, *own, self.state, self.jobs, self.runs


class Disk:
    """Durable changes. Each is whole after a power cut, or was never made."""

    def write(self, path: Path, content: bytes | str) -> None:
        """Replace a file.

        Raises:
            MachineError: it was not written.
        """
        write_whole(path, content)

    def move(self, source: Path, target: Path) -> None:
        """Move a file or folder to a name that is free.

        Raises:
            MachineError: it was not moved.
            FileNotFoundError: there is no such file.
        """
        if not os.path.lexists(source):
            raise FileNotFoundError(source)
        with disk_errors(target):
            if os.path.lexists(target):
                raise FileExistsError(17, "the name is taken", str(target))
            source.rename(target)
            sync_folder(target.parent)
            sync_folder(source.parent)

    def link(self, link: Path, target: Path) -> None:
        """Point a link to another place.

        Raises:
            MachineError: it still points to the old one.
        """
        replace_link_text(link, os.path.relpath(target, link.parent))

    def remove(self, path: Path) -> None:
        """Remove a file or a link, if it is there.

        Raises:
            MachineError: it is still there.
        """
        with disk_errors(path):
            path.unlink(missing_ok=True)
            sync_folder(path.parent)


def free_name(folder: Path, name: str, number: int) -> str:
    """A name in a folder that is free, with those of its receipt and error.

    Args:
        folder: where the name is to be.
        name: as the file was dropped.
        number: of its job, appended if the name is taken.
    """
    path = Path(name)
    suffix = "".join(path.suffixes[-2:])
    suffix = suffix if len(suffix.encode()) <= 20 else ""
    stem = name.removesuffix(suffix)
    while len((stem + suffix).encode()) > _MAX_NAME:
        stem = stem[:-1]
    tail, found = "", stem + suffix
    while any(os.path.lexists(folder / f"{found}{end}") for end in ("", RECEIPT, ERROR)):
        tail += f"-{number:04}"
        found = append_to_name(stem, tail) + suffix
    return found


def _no_place(place: Path) -> UsageError:
    kind = "a link" if place.is_symlink() else "a file"
    return UsageError(
        f"{place} is {kind}",
        cause=Cause.NOT_WRITABLE,
        have=f"{kind} where the inbox keeps files",
        need="a real folder: links are not followed",
        remedies=(
            Remedy(f"rm {shlex.quote(str(place))}", "removes it; the folder is created again"),
        ),
    )
