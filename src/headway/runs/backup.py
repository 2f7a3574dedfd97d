"""Backups of a run: verified copies to go back to.

    runs/.backups/<run>/<when>-<type>/
      backup.json       which run, when, what for
      run/              the run's folder as it was
      manifest.json     size and hash of every file

A checkpoint's files are never written a second time, so a backup shares them with the run by hard
links where the file system has them; everything else is copied.
"""

import contextlib
import errno
import re
import shutil
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from headway.base.errors import Cause, ComeBack, MachineError, Remedy, UsageError
from headway.base.files import MANIFEST, FileHash, Manifest, make_folder, write_folder
from headway.base.lock import exclusive_lock, is_held
from headway.base.pulse import Phase, Pulse
from headway.base.units import size
from headway.base.version import __version__
from headway.base.versioned_json import read
from headway.runs.folder import RunFolder, find_run

SCHEMA = "headway.backup/1"
PRE_RESTORE = "pre_restore"
_FOLDER = ".backups"
_LEFT_OUT = ("run.lock", "pulse.json")  # of the moment


@dataclass(frozen=True)
class Made:
    """`backup.json`."""

    schema: str
    run: str
    type: str  # what for, in a word: manual, pre_recovery, pre_restore
    note: str
    at: str  # UTC, ISO 8601
    version: str
    model: str  # the checkpoint that `model` pointed to, "" for none
    live: bool  # the run was being trained: of its checkpoints only that one is here


@dataclass(frozen=True)
class Backup:
    """One backup on the disk."""

    path: Path
    made: Made
    bytes: int  # of all its files
    own_bytes: int  # that neither the run nor an older backup shares

    @property
    def name(self) -> str:
        """What `restore` knows it by."""
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
    """Copy a run as it is, durably and read back; of a live run its newest good checkpoint.

    Args:
        folder: the run.
        now: the time, in UTC.
        pulse: told how far it is.
        kind: what it is for, in one word.
        note: anything.
        share: with hard links, where the file system has them; else every byte is copied.

    Raises:
        UsageError: the kind is no word.
        MachineError: it could not be written; nothing of it is left.
        ComeBack: another backup or restore of this run is on its way, or the run moved on.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", kind):
        raise _no_word(kind)
    with at_work(folder.path):
        live = is_held(folder.lock)
        return write_backup(folder, now, pulse, kind=kind, note=note, live=live, share=share)


@contextlib.contextmanager
def at_work(run: Path) -> Generator[None]:
    """Be the only one that makes or restores backups of a run; leftovers are cleared away.

    Raises:
        ComeBack: somebody else is.
        MachineError: the disk takes nothing.
    """
    home = _home(run)
    make_folder(home)
    busy = ComeBack(
        f"{run.name} is already being backed up or restored",
        cause=Cause.LOCKED,
        have="another process",
        need="one backup or restore at a time",
        remedies=(Remedy("run the same command again", "in a moment"),),
    )
    with exclusive_lock(home / ".lock", busy):
        left = [path for path in home.iterdir() if path.name.startswith(".") and path.is_dir()]
        left += [path for path in run.parent.iterdir() if path.name.startswith(hidden(run))]
        for path in left:
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
    """`make_backup` for whoever is `at_work`."""
    model = folder.model.readlink().name if folder.model.is_symlink() else ""
    made = Made(
        schema=SCHEMA,
        run=folder.path.name,
        type=kind,
        note=note,
        at=now.isoformat(timespec="seconds"),
        version=__version__,
        model=model,
        live=live,
    )
    final = _free(_home(folder.path) / f"{now:%Y%m%d-%H%M%S}-{kind}")
    taken = [
        path for path in files_of(folder.path) if not live or _goes_on(path, folder.path, model)
    ]

    def fill(temporary: Path) -> None:
        copy_files(folder.path, temporary / "run", taken, pulse, share=share)
        (temporary / "backup.json").write_bytes(
            msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n"
        )

    try:
        with room_for(taken, f"{folder.path.name} was not backed up"):
            write_folder(final, fill)
    except MachineError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise _moved_on(folder.path) from error
        raise
    return next(one for one in list_backups(folder.path) if one.path == final)


def list_backups(run: Path) -> list[Backup]:
    """The backups of a run, oldest first; the run itself may be gone."""
    seen = set(_inodes(run))
    found: list[Backup] = []
    for path in sorted(_home(run).glob("[0-9]*")):
        try:
            made = read(path / "backup.json", Made, SCHEMA)
        except (OSError, msgspec.MsgspecError):
            continue  # no backup of ours
        inodes = _inodes(path)
        own = sum(num for inode, num in inodes.items() if inode not in seen)
        seen |= inodes.keys()
        found.append(Backup(path, made, sum(inodes.values()), own))
    return found


def backed_up(output_dir: Path) -> list[Path]:
    """Every run in a folder that has backups, whether it is still there or not."""
    homes = sorted((output_dir / _FOLDER).glob("*"))
    return [output_dir / home.name for home in homes if list_backups(output_dir / home.name)]


def run_of(run: str | None, output_dir: Path) -> Path:
    """A run's folder by name or path; it may be gone where there are backups of it.

    Raises:
        UsageError: there is neither.
    """
    if run and Path(run).name == run and _home(output_dir / run).is_dir():
        return output_dir / run
    if run and _home(Path(run)).is_dir():
        return Path(run)
    return find_run(run, output_dir).path


def unsound(backup: Backup) -> list[str]:
    """What was no longer as it had been written, in its checkpoints, when the backup was made."""
    copied = _manifest(backup.path)
    problems: list[str] = []
    for checkpoint in sorted((backup.path / "run").glob("checkpoint-*")):
        place = checkpoint.relative_to(backup.path)
        written = _manifest(checkpoint)
        bad = [name for name, file in written.items() if copied.get(f"{place}/{name}") != file]
        problems += [f"{place.name}/{name}" for name in (bad if written else [MANIFEST])]
    return problems


def _manifest(folder: Path) -> dict[str, FileHash]:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest).files
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return {}


# -- files -----------------------------------------------------------------------------------


def files_of(folder: Path) -> Iterator[Path]:
    """Every file of a run but hidden ones, links, and what is of the moment only."""
    for path in sorted(folder.rglob("*")):
        unseen = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if unseen or path.is_symlink() or not path.is_file():
            continue
        if path.parent != folder or path.name not in _LEFT_OUT:
            yield path


def _goes_on(path: Path, run: Path, model: str) -> bool:
    """Whether a file of a live run will still be there in a moment."""
    return path.parent == run or path.relative_to(run).parts[0] == model


def copy_files(source: Path, to: Path, files: list[Path], pulse: Pulse, *, share: bool) -> None:
    """Copy some of a folder's files to the same places below another."""
    with pulse.phase(Phase.COPYING, total=_num_bytes(files), unit="bytes"):
        done = 0
        to.mkdir(exist_ok=True)
        for path in files:
            copy = to / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            # only what lies in folders is never written again
            if not (share and path.parent != source and _linked(path, copy)):
                shutil.copyfile(path, copy)
            done += copy.stat().st_size
            pulse.progress(done)


@contextlib.contextmanager
def room_for(files: list[Path], what: str) -> Generator[None]:
    """Where the disk is full, say what was to be copied.

    Raises:
        MachineError: in place of one that speaks of a checkpoint.
    """
    try:
        yield
    except MachineError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise MachineError(
            f"{what}: the disk is full",
            have=error.have,
            need=f"{size(_num_bytes(files))}, less what hard links share",
            remedies=(Remedy("headway backup --list", "older ones, which can be deleted"),),
        ) from cause


def _linked(path: Path, copy: Path) -> bool:
    try:
        copy.hardlink_to(path)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        return False
    return True


def _num_bytes(files: list[Path]) -> int:
    return sum(path.stat().st_size for path in files if path.exists())


def _inodes(folder: Path) -> dict[tuple[int, int], int]:
    """Bytes of each different file below a folder; a file with two names counts once."""
    stats = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {(stat.st_dev, stat.st_ino): stat.st_size for stat in stats}


def _home(run: Path) -> Path:
    return run.parent / _FOLDER / run.name


def hidden(run: Path) -> str:
    """How the names of folders begin that a restore makes on its way."""
    return f".{run.name}.restoring-"


def _free(path: Path) -> Path:
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


# -- refusals --------------------------------------------------------------------------------


def _moved_on(run: Path) -> ComeBack:
    return ComeBack(
        f"{run.name} moved on while it was being copied",
        have="a checkpoint that has just been deleted",
        need="the same one from beginning to end",
        remedies=(Remedy(f"headway backup {run}", "once more"),),
    )


def _no_word(kind: str) -> UsageError:
    return UsageError(
        f"--type {kind}: not a word that suits a folder's name",
        have=kind,
        need="lower-case letters, digits, - and _, at most 40",
        remedies=(Remedy("--type pre_recovery"), Remedy(f"--note {kind!r}", "any text")),
    )
