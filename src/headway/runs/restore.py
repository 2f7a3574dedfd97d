"""Put a run back as a backup has it, and keep what was there."""

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headway.base.disk import disk_errors
from headway.base.errors import Cause, ComeBack, MachineError, Remedy, UsageError
from headway.base.files import FileProblem, hash_file, point, sync_folder, verify_folder
from headway.base.lock import exclusive_lock
from headway.base.pulse import Phase, Pulse
from headway.runs.backup import (
    Backup,
    at_work,
    copy_files,
    files_of,
    hidden,
    list_backups,
    room_for,
    write_backup,
)
from headway.runs.folder import RunFolder

PRE_RESTORE = "pre_restore"
_SWAP = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
_AT_FDCWD = -100


@dataclass(frozen=True)
class Restored:
    """A run that is again what it was."""

    run: Path
    backup: Backup
    kept: Backup | None  # what was there before; None where nothing was


def restore(
    run: Path, name: str | None, now: datetime, pulse: Pulse, *, share: bool = True
) -> Restored:
    """Put a run back as a backup has it; what is there now becomes a backup first.

    Killed at any moment, the run's folder is the old one or the new one.

    Args:
        run: the folder, which may be gone.
        name: of the backup, or the beginning of it; None: the newest that no restore made.
        now: the time, in UTC.
        pulse: told how far it is.
        share: as in `make_backup`.

    Raises:
        UsageError: there is no such backup.
        ComeBack: the run is being trained.
        MachineError: the backup does not read back, or the disk does not take it.
    """
    backup = _chosen(run, name)
    with at_work(run):
        pulse.enter(Phase.VERIFYING_BACKUP)
        problems = verify_folder(backup.path)
        if problems:
            raise _spoiled(run, backup, problems)
        if not run.is_dir():
            _put(run, backup, pulse, share=share)
            return Restored(run, backup, None)
        with exclusive_lock(run / "run.lock", _being_trained(run)):
            pulse.enter(Phase.BACKING_UP_CURRENT)
            kept = write_backup(RunFolder(run), now, pulse, kind=PRE_RESTORE, share=share)
            _put(run, backup, pulse, share=share)
        return Restored(run, backup, kept)


def _being_trained(run: Path) -> ComeBack:
    return ComeBack(
        f"{run} is being trained right now",
        cause=Cause.RUN_ACTIVE,
        have="another process",
        need="one process per run",
        remedies=(Remedy(f"headway stop {run}", "saves and stops it"),),
    )


def _put(run: Path, backup: Backup, pulse: Pulse, *, share: bool) -> None:
    source = backup.path / "run"
    files = list(files_of(source))
    with room_for(files, f"{run.name} was not restored"), disk_errors(run):
        made = Path(tempfile.mkdtemp(prefix=hidden(run), dir=run.parent))
        try:
            made.chmod(0o755)
            copy_files(source, made, files, pulse, share=share)
            _check_copies(source, made, files)
            if backup.made.model:
                point(made / "model", Path(backup.made.model))
            _sync(made)
            _swap(made, run)
            sync_folder(run.parent)
        finally:
            shutil.rmtree(made, ignore_errors=True)  # what was there, or what did not get there


def _check_copies(source: Path, made: Path, files: list[Path]) -> None:
    for path in files:
        copy = made / path.relative_to(source)
        if not copy.samefile(path) and hash_file(copy) != hash_file(path):
            raise OSError(f"{copy} does not read back as it was written")


def _sync(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            sync_folder(path)
        elif not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _swap(made: Path, run: Path) -> None:
    """Give the new folder the run's name, and the old one the other, in one step."""
    if not run.exists():
        made.rename(run)
    elif not _exchanged(made, run):
        # This file system cannot: for an instant neither has the name, both are there.
        aside = made.with_name(made.name + ".old")
        run.rename(aside)
        made.rename(run)
        aside.rename(made)


def _exchanged(one: Path, other: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    if sys.platform == "darwin":
        return libc.renamex_np(*names, _SWAP) == 0
    call: Callable[..., int] | None = getattr(libc, "renameat2", None)
    return call is not None and call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _SWAP) == 0


def _chosen(run: Path, name: str | None) -> Backup:
    backups = list_backups(run)
    if name is None:
        fitting = [one for one in backups if one.made.type != PRE_RESTORE][-1:]
    else:
        exact = [one for one in backups if one.name == name]
        fitting = exact or [one for one in backups if one.name.startswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    names = [one.name for one in backups]
    if not backups:
        raise UsageError(
            f"there is no backup of {run.name}",
            have="none in " + str(run.parent / ".backups"),
            need="a backup to go back to",
            remedies=(Remedy(f"headway backup {run}", "makes one of the run as it is"),),
        )
    what = f"{run.name} has no backup {name}"
    if name is None:
        what = f"the backups of {run.name} were all made by a restore: which one?"
    elif fitting:
        what = f"{name} is the beginning of {len(fitting)} backups of {run.name}"
    raise UsageError(
        what,
        have=", ".join(names[-4:]),
        need="the name of one",
        remedies=tuple(Remedy(f"headway restore {run} {one}") for one in names[-2:]),
    )


def _spoiled(run: Path, backup: Backup, problems: list[FileProblem]) -> MachineError:
    others = [one.name for one in list_backups(run) if one.name != backup.name]
    return MachineError(
        f"backup {backup.name} does not read back as it was written",
        have=str(problems[0]),
        need="the bytes that were written; nothing was changed",
        remedies=tuple(Remedy(f"headway restore {run} {name}", "another") for name in others[-2:])
        or (Remedy(f"headway verify {run}", "whether the run itself is sound"),),
    )
