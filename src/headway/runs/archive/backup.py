"""Run backups: verified copies to restore from.

    runs/.backups/<run>/<when>-<type>/
      backup.json       which run, when, what for
      run/              the run's folder as it was
      manifest.json     size and hash of every file

A checkpoint's files never change once written, so a backup shares them with the run by hard links
where the file system supports them. Everything else is copied.
"""

import contextlib
import glob
import re
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from headway.base.errors import Cause, ComeBack, MachineError, Remedy, UsageError
from headway.base.files import MANIFEST, FileHash, Manifest, make_folder, unused_path, write_folder
from headway.base.lock import exclusive_lock, is_held
from headway.base.pulse import Phase, Pulse
from headway.base.units import size
from headway.base.version import __version__
from headway.base.versioned_json import read
from headway.runs.folder import RunFolder, find_run

SCHEMA = "headway.backup/1"
PRE_RESTORE = "pre_restore"
_FOLDER = ".backups"
_TRANSIENT = ("run.lock", "pulse.json")  # not backed up


@dataclass(frozen=True)
class BackupInfo:
    """What backup.json contains."""

    schema: str
    run: str
    type: str  # manual, pre_recovery, pre_restore, or any such word
    note: str
    at: str  # UTC, ISO 8601
    version: str
    model: str  # the checkpoint that `model` links to, "" for none
    live: bool  # made during training: `model` is its only checkpoint


@dataclass(frozen=True)
class Backup:
    """One backup on disk."""

    path: Path
    made: BackupInfo
    bytes: int  # of all its files
    own_bytes: int  # not shared with the run or an older backup

    @property
    def name(self) -> str:
        """The name that `restore` takes."""
        return self.path.name


def make_backup(
    folder: RunFolder,
    now: datetime,
    pulse: Pulse,
    *,
    kind: str = "manual",
    note: str = "",
    share: bool = True,
) -> Backup:
    """Back up a run and verify the copy. Of a live run, only the newest good checkpoint is copied.

    Args:
        folder: the run.
        now: the time, in UTC.
        pulse: shows the progress.
        kind: the backup's type, one word.
        note: any text.
        share: use hard links where possible; otherwise every byte is copied.

    Raises:
        UsageError: `kind` is not a valid type.
        MachineError: the backup could not be written; nothing of it is left.
        ComeBack: this run is already being backed up or restored, or it changed meanwhile.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", kind):
        raise _invalid_type(kind)
    with backup_lock(folder.path):
        live = is_held(folder.lock)
        return write_backup(folder, now, pulse, kind=kind, note=note, live=live, share=share)


@contextlib.contextmanager
def backup_lock(run: Path) -> Generator[None]:
    """Hold the lock on a run's backups, and delete what a killed backup or restore left.

    Raises:
        ComeBack: another process holds it.
        MachineError: the disk cannot be written.
    """
    home = _backups_of(run)
    make_folder(home)
    busy = ComeBack(
        f"{run.name} is already being backed up or restored",
        cause=Cause.LOCKED,
        have="another process",
        need="one backup or restore at a time",
        remedies=(Remedy("run the same command again", "in a moment"),),
    )
    with exclusive_lock(home / ".lock", busy):
        unfinished = [path for path in home.glob(".*") if path.is_dir()]
        for path in [*unfinished, *run.parent.glob(f"{glob.escape(restoring_prefix(run))}*")]:
            shutil.rmtree(path, ignore_errors=True)
        yield


def write_backup(
    folder: RunFolder,
    now: datetime,
    pulse: Pulse,
    *,
    kind: str,
    note: str = "",
    live: bool = False,
    share: bool = True,
) -> Backup:
    """`make_backup` for a caller that holds `backup_lock`."""
    model = folder.model.readlink().name if folder.model.is_symlink() else ""
    made = BackupInfo(
        schema=SCHEMA,
        run=folder.path.name,
        type=kind,
        note=note,
        at=now.isoformat(timespec="seconds"),
        version=__version__,
        model=model,
        live=live,
    )
    final = unused_path(_backups_of(folder.path) / f"{now:%Y%m%d-%H%M%S}-{kind}")
    taken = [
        path for path in files_of(folder.path) if not live or _is_stable(path, folder.path, model)
    ]

    def fill(temporary: Path) -> None:
        copy_files(folder.path, temporary / "run", taken, pulse, share=share)
        (temporary / "backup.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
        )

    try:
        with explain_full_disk(taken, f"{folder.path.name} was not backed up"):
            write_folder(final, fill)
    except MachineError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise _run_changed(folder.path) from error
        raise
    return next(one for one in list_backups(folder.path) if one.path == final)


def list_backups(run: Path) -> list[Backup]:
    """The backups of a run, oldest first, whether the run still exists or not."""
    seen = set(_inodes(run))
    found: list[Backup] = []
    for path in sorted(_backups_of(run).glob("[0-9]*")):
        try:
            made = read(path / "backup.json", BackupInfo, SCHEMA)
        except (OSError, msgspec.MsgspecError):
            continue  # not a backup
        inodes = _inodes(path)
        own = sum(num for inode, num in inodes.items() if inode not in seen)
        seen |= inodes.keys()
        found.append(Backup(path, made, sum(inodes.values()), own))
    return found


def runs_with_backups(output_dir: Path) -> list[Path]:
    """Every run of a folder that has backups, whether the run still exists or not."""
    homes = sorted((output_dir / _FOLDER).glob("*"))
    return [output_dir / home.name for home in homes if list_backups(output_dir / home.name)]


def find_run_or_backups(run: str | None, output_dir: Path) -> Path:
    """Find a run by name or path, whether the run or only its backups still exist.

    Raises:
        UsageError: there is neither.
    """
    if run and Path(run).name == run and _backups_of(output_dir / run).is_dir():
        return output_dir / run
    if run and _backups_of(Path(run)).is_dir():
        return Path(run)
    return find_run(run, output_dir).path


def damaged_files(backup: Backup) -> list[str]:
    """Checkpoint files that were already damaged when the backup was made."""
    copied = _manifest(backup.path)
    damaged: list[str] = []
    for checkpoint in sorted((backup.path / "run").glob("checkpoint-*")):
        place = checkpoint.relative_to(backup.path)
        written = _manifest(checkpoint)
        bad = [name for name, file in written.items() if copied.get(f"{place}/{name}") != file]
        damaged += [f"{place.name}/{name}" for name in (bad if written else [MANIFEST])]
    return damaged


def _manifest(folder: Path) -> dict[str, FileHash]:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest).files
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


# -- files -----------------------------------------------------------------------------------


def files_of(folder: Path) -> Iterator[Path]:
    """Every file of a run, except restoring_prefix ones, links, and those of a live process."""
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_hidden or path.is_symlink() or not path.is_file():
            continue
        if path.parent != folder or path.name not in _TRANSIENT:
            yield path


def _is_stable(path: Path, run: Path, model: str) -> bool:
    """Whether a live run keeps this file: not in a checkpoint that may be deleted."""
    return path.parent == run or path.relative_to(run).parts[0] == model


def copy_files(source: Path, to: Path, files: list[Path], pulse: Pulse, *, share: bool) -> None:
    """Copy files of folder `source` to the same places in folder `to`."""
    with pulse.phase(Phase.COPYING, total=_num_bytes(files), unit="bytes"):
        done = 0
        to.mkdir(exist_ok=True)
        for path in files:
            copy = to / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            # Files in subfolders never change; those at the top do, so they are always copied.
            if not (share and path.parent != source and _linked(path, copy)):
                shutil.copyfile(path, copy)
            done += copy.stat().st_size
            pulse.progress(done)


@contextlib.contextmanager
def explain_full_disk(files: list[Path], what: str) -> Generator[None]:
    """If the disk is full, say how much there was to copy.

    Args:
        files: to be copied.
        what: what failed, for the message.

    Raises:
        MachineError: in place of one about a checkpoint.
    """
    try:
        yield
    except MachineError as error:
        if error.cause is not Cause.DISK_FULL:
            raise
        raise MachineError(
            f"{what}: the disk is full",
            cause=Cause.DISK_FULL,
            have=error.have,
            need=f"{size(_num_bytes(files))}, less if hard links can be used",
            remedies=(Remedy("headway backup --list", "lists older backups to delete"),),
        ) from error


def _linked(path: Path, copy: Path) -> bool:
    try:
        copy.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        return False
    return True


def _num_bytes(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.exists())


def _inodes(folder: Path) -> dict[tuple[int, int], int]:
    """Bytes by inode of all files in a folder, so that hard links count once."""
    stats = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}


def _backups_of(run: Path) -> Path:
    return run.parent / _FOLDER / run.name


def restoring_prefix(run: Path) -> str:
    """Prefix of the temporary folders of a restore."""
    return f".{run.name}.restoring-"


# -- refusals --------------------------------------------------------------------------------


def _run_changed(run: Path) -> ComeBack:
    return ComeBack(
        f"{run.name} changed while it was being copied",
        cause=Cause.RUN_ACTIVE,
        have="a checkpoint that was deleted meanwhile",
        need="the same checkpoint from start to end",
        remedies=(Remedy(f"headway backup {run}", "tries again"),),
    )


def _invalid_type(kind: str) -> UsageError:
    return UsageError(
        f"--type {kind} cannot be part of a folder name",
        cause=Cause.INVALID_VALUE,
        have=kind,
        need="lower-case letters, digits, - and _, at most 40",
        remedies=(Remedy("--type pre_recovery"), Remedy(f"--note {kind!r}", "takes any text")),
    )
