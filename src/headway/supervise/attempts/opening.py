"""Opening of a run: the files it starts with, and the first event of an attempt."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from headway.base.addresses import hide_credentials
from headway.base.disk import disk_errors
from headway.base.errors import Finding
from headway.base.events import AttemptStarted, EventLog, EventReader, Noted
from headway.base.files import write_whole
from headway.base.lock import RunLock
from headway.base.version import __version__
from headway.config.settings import Settings
from headway.config.yaml_file import write_settings
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.supervise.attempts.restart import NO_RESTART, Restart


def write_run(folder: RunFolder, plan: Plan, settings: Settings, sources: Sequence[str]) -> None:
    """Write the files of a new run; its folder exists.

    Args:
        folder: of the run.
        plan: that it is to train.
        settings: as a person gave them.
        sources: of the data.

    Raises:
        MachineError: one cannot be written.
    """
    hidden = tuple(map(hide_credentials, sources))
    write_whole(folder.path / "run.yaml", write_settings(settings, hidden))
    rejected = Path(plan.data.store, "rejected.jsonl")
    if rejected.exists() and not plan.data.stream:  # a stream's are found as it is read
        with disk_errors(folder.path / "rejected.jsonl"):
            shutil.copyfile(rejected, folder.path / "rejected.jsonl")
    plan.save(folder.path)


def open_attempt(
    folder: RunFolder,
    plan: Plan,
    lock: RunLock,
    began_s: float,
    note: str = "",
    restart: Restart = NO_RESTART,
) -> tuple[EventLog, EventReader]:
    """Start an attempt's log with its first event.

    Args:
        folder: of the run; a receipt of an earlier attempt is deleted.
        plan: of the run.
        lock: held by this process.
        began_s: CLOCK_MONOTONIC at the start of the attempt.
        note: what is different from the last attempt; "" if nothing is.
        restart: why new workers take the place of others.

    Returns:
        The log, and a reader of what is new in it.
    """
    (folder.path / "receipt.json").unlink(missing_ok=True)
    reader = EventReader(folder.events)
    num_attempts = sum(isinstance(entry.event, AttemptStarted) for entry in reader.new())
    log = EventLog(folder.events, num_attempts + 1, began_s=began_s)
    checkpoints = folder.checkpoints()
    newest = checkpoints[-1] if checkpoints else None
    log.write(
        AttemptStarted(
            run=folder.path.name,
            version=__version__,
            pid=os.getpid(),
            from_global_step=newest.global_step if newest else plan.steps.first,
            resumed_from=newest.path.name if newest else "",
            restarts=restart.number,
            after=restart.after,
        )
    )
    if note:
        log.write(Noted(Finding("adjusted", note)))
    if lock.broken_owner and not restart.number:
        what = f"took over the lock of process {lock.broken_owner.pid}, which is gone"
        log.write(Noted(Finding("ok", what)))
    return log, reader
