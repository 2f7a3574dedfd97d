"""Watched job: the folder, lock, log and pulses of a run by another program, while it lasts."""

import contextlib
import os
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from headway.base.disk import disk_errors
from headway.base.events import AttemptStarted, EventLog
from headway.base.files import make_folder
from headway.base.lock import RunLock
from headway.base.process_id import ProcessId
from headway.base.pulse import Pulse
from headway.base.version import __version__
from headway.config.run_name import append_to_name
from headway.runs.watched.watched_run import WatchedRun
from headway.supervise.live.live_jobs import LiveJob
from headway.supervise.live.runtime_folder import LiveFolder


class WatchedJob:
    """A run by another program, opened: `headway runs`, `status` and `logs` show it live.

    Args:
        run: what is known of it. Its name gets a number if there is a folder of that name.
        output_dir: the folder with the runs.
        resumed_from: the checkpoint's folder name, "" for a start from nothing.

    Attributes:
        run: with the name that it has now.
        folder: of the run.
        log: its events.jsonl.
        pulse: to be written by the thread that trains, and by no other.
        live: the folder with the pulse, while it lasts.

    Raises:
        MachineError: the folder cannot be written.
    """

    def __init__(self, run: WatchedRun, output_dir: Path, resumed_from: str = "") -> None:
        self.folder = _new_folder(output_dir, run.name)
        self.run = replace(run, name=self.folder.name, directory=str(Path.cwd()))
        self._open = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            live = self.live = opened.enter_context(LiveFolder())
            opened.enter_context(RunLock(self.folder / "run.lock", live=str(live)))
            self.run.save(self.folder)
            self.log = EventLog(self.folder / "events.jsonl", rank=0)
            self.pulse = Pulse(live / "rank-0.pulse")
            job = LiveJob(
                run=self.folder.name,
                folder=str(self.folder.resolve()),
                output_dir=str(output_dir.resolve()),
                argv=(Path(sys.argv[0]).name,),  # arguments may hold tokens
                process=ProcessId.mine(),
                live=str(live),
                started_at=datetime.now(UTC).isoformat(),
            )
            job.publish()
            first = self.run.steps.first
            started = AttemptStarted(
                self.folder.name, __version__, os.getpid(), first, resumed_from
            )
            self.log.write(started)
            self._open = opened.pop_all()

    def close(self) -> None:
        """Release the lock and remove what was live; a second time does nothing."""
        self._open.close()


def _new_folder(output_dir: Path, name: str) -> Path:
    """A folder that nobody else has: `name`, `name-2`, `name-3`, ..."""
    make_folder(output_dir)
    number = 1
    while True:
        folder = output_dir / (name if number == 1 else append_to_name(name, f"-{number}"))
        with disk_errors(folder):
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                number += 1
