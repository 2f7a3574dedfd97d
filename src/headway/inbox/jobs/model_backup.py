"""Backup of the model before a file: the run that the file continues, as `headway backup` does."""

from datetime import datetime
from pathlib import Path

from headway.base.pulse import Pulse
from headway.runs.archive.backup import list_backups, make_backup
from headway.runs.archive.restore import restore
from headway.runs.folder import RunFolder

KIND = "before_file"


def back_up_model(run: Path, note: str, now: datetime, pulse: Pulse) -> bool:
    """Back up a run, unless that was done before; returns whether it was done now.

    Raises:
        MachineError: the backup could not be written.
        ComeBack: another process is backing it up.
    """
    folder = RunFolder(run)
    model = folder.model.readlink().name if folder.model.is_symlink() else ""
    if any(_has(one.path, model) for one in list_backups(run) if one.made.type == KIND):
        return False
    make_backup(folder, now, pulse, kind=KIND, note=note)
    return True


def restore_model(run: Path, checkpoint: str, now: datetime) -> bool:
    """Restore a run whose checkpoint was deleted from its newest backup that has it, if any.

    Returns:
        Whether there was one.

    Raises:
        MachineError: the backup is damaged.
    """
    backups = [one for one in list_backups(run) if _has(one.path, checkpoint)]
    if not backups:
        return False
    restore(run, backups[-1].name, now, Pulse())
    return True


def _has(backup: Path, checkpoint: str) -> bool:
    return bool(checkpoint) and (backup / "run" / checkpoint).is_dir()
