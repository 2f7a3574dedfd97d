"""Run restore from a backup, after a backup of the current state."""

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
from headway.base.files import FileProblem, hash_file, replace_link, sync_folder, verify_folder
from headway.base.lock import exclusive_lock
from headway.base.pulse import Phase, Pulse
from headway.runs.archive.backup import (
    Backup,
    backup_lock,
    copy_files,
    explain_full_disk,
    files_of,
    list_backups,
    restoring_prefix,
    write_backup,
)
from headway.runs.folder import RunFolder

PRE_RESTORE = "pre_restore"
_SWAP = 2  # RENAME_EXCHANGE on Linux, RENAME_SWAP on macOS
_AT_FDCWD = -100


@dataclass(frozen=True)
class Restored:
    """A restored run."""

    run: Path
    backup: Backup
    kept: Backup | None  # the state before the restore; None if the run was gone


def restore(
    run: Path, name: str | None, now: datetime, pulse: Pulse, *, share: bool = True
) -> Restored:
    """Restore a run from a backup; its current state is backed up first.

    If the process is killed, the run's folder is either the old one or the new one.

    Args:
        run: the folder, which may be gone.
        name: of the backup, or a unique prefix; None for the newest that no restore made.
        now: the time, in UTC.
        pulse: shows the progress.
        share: as in `make_backup`.

    Raises:
        UsageError: there is no such backup.
        ComeBack: the run is being trained.
        MachineError: the backup is damaged, or the disk cannot be written.
    """
    backup = _find_backup(run, name)
    with backup_lock(run):
        pulse.enter(Phase.VERIFYING_BACKUP)
        problems = verify_folder(backup.path)
        if problems:
            raise _backup_damaged(run, backup, problems)
        if not run.is_dir():
            _replace_run(run, backup, pulse, share=share)
            return Restored(run, backup, None)
        with exclusive_lock(run / "run.lock", _being_trained(run)):
            pulse.enter(Phase.BACKING_UP_CURRENT)
            kept = write_backup(RunFolder(run), now, pulse, kind=PRE_RESTORE, share=share)
            _replace_run(run, backup, pulse, share=share)
        return Restored(run, backup, kept)


def _being_trained(run: Path) -> ComeBack:
    return ComeBack(
        f"{run} is being trained",
        cause=Cause.RUN_ACTIVE,
        have="another process",
        need="one process per run",
        remedies=(Remedy(f"headway stop {run}", "saves and stops it"),),
    )


def _replace_run(run: Path, backup: Backup, pulse: Pulse, *, share: bool) -> None:
    source = backup.path / "run"
    files = list(files_of(source))
    with explain_full_disk(files, f"{run.name} was not restored"), disk_errors(run):
        new = Path(tempfile.mkdtemp(prefix=restoring_prefix(run), dir=run.parent))
        try:
            new.chmod(0o755)
            copy_files(source, new, files, pulse, share=share)
            _check_copies(source, new, files)
            if backup.made.model:
                replace_link(new / "model", Path(backup.made.model))
            _sync(new)
            _exchange(new, run)
            sync_folder(run.parent)
        finally:
            shutil.rmtree(new, ignore_errors=True)  # the old run, or an incomplete new one


def _check_copies(source: Path, new: Path, files: list[Path]) -> None:
    for path in files:
        copy = new / path.relative_to(source)
        if not copy.samefile(path) and hash_file(copy) != hash_file(path):
            raise OSError(f"{copy} differs from the backup")


def _sync(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            sync_folder(path)
        elif not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _exchange(new: Path, run: Path) -> None:
    """Exchange the names of the new folder and the run, atomically where possible."""
    if not run.exists():
        new.rename(run)
    elif not _exchange_names(new, run):
        # Not atomic here: for an instant no folder has the run's name, but both exist.
        aside = new.with_name(new.name + ".old")
        run.rename(aside)
        new.rename(run)
        aside.rename(new)


def _exchange_names(one: Path, other: Path) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one.absolute()), os.fsencode(other.absolute())
    if sys.platform == "darwin":
        return libc.renamex_np(*names, _SWAP) == 0
    call: Callable[..., int] | None = getattr(libc, "renameat2", None)
    return call is not None and call(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _SWAP) == 0


def _find_backup(run: Path, name: str | None) -> Backup:
    backups = list_backups(run)
    if name is None:
        matching = [one for one in backups if one.made.type != PRE_RESTORE][-1:]
    else:
        exact = [one for one in backups if one.name == name]
        matching = exact or [one for one in backups if one.name.startswith(name)]
    if len(matching) == 1:
        return matching[0]
    names = [one.name for one in backups]
    if not backups:
        raise UsageError(
            f"no backup of {run.name}",
            cause=Cause.BACKUP_NOT_FOUND,
            have=f"none in {run.parent / '.backups'}",
            need="a backup to restore",
            remedies=(Remedy(f"headway backup {run}", "backs up the run as it is now"),),
        )
    what = f"{run.name} has no backup {name}"
    if name is None:
        what = f"every backup of {run.name} was made by a restore: name one"
    elif matching:
        what = f"{name} matches {len(matching)} backups of {run.name}"
    raise UsageError(
        what,
        cause=Cause.BACKUP_NOT_FOUND,
        have=", ".join(names[-4:]),
        need="the name of one backup",
        remedies=tuple(Remedy(f"headway restore {run} {one}") for one in names[-2:]),
    )


def _backup_damaged(run: Path, backup: Backup, problems: list[FileProblem]) -> MachineError:
    others = [one.name for one in list_backups(run) if one.name != backup.name]
    return MachineError(
        f"backup {backup.name} is damaged",
        cause=Cause.BACKUP_DAMAGED,
        have=str(problems[0]),
        need="the files as they were written; the run was not changed",
        remedies=tuple(Remedy(f"headway restore {run} {name}") for name in others[-2:])
        or (Remedy(f"headway verify {run}", "checks the run itself"),),
    )
