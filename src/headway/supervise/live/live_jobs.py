"""Live jobs: the jobs running now, and the status of any run."""

import contextlib
import shlex
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.events import EventReader
from headway.base.files import write_lightly, write_whole
from headway.base.lock import Owner, is_held, owner_of, running_owner
from headway.base.process_id import ProcessId, is_alive
from headway.base.pulse import PulseReading, read_pulse
from headway.runs.folder import RunFolder, find_run, list_runs
from headway.runs.receipt import Receipt, load_receipt
from headway.runs.watched.watched_run import FILE as WATCHED
from headway.runs.watched.watched_run import WatchedRun, load_watched
from headway.supervise.live.runtime_folder import live_folders, runtime_folders
from headway.supervise.progress import Aim, Progress, Readings, Status
from headway.supervise.stalls.note import read_note

# The last line of a watched run that left none: what it saved is up to its own program.
_LOST = {
    "guard": "headway guard was killed, and the command with it; output.log has what it printed",
    "callback": "the process that trained is gone; resume it from its own checkpoint",
}


@dataclass(frozen=True)
class LiveJob:
    """A running job's description of itself, in its live folder."""

    run: str  # its name, "" until it is known
    folder: str  # of the run, absolute; "" until there is a plan
    output_dir: str  # absolute
    argv: tuple[str, ...]
    process: ProcessId  # of the supervisor
    live: str  # its live folder: job.json, planner.pulse, rank-*.pulse
    started_at: str  # UTC, ISO 8601

    def publish(self) -> None:
        """Write job.json; call it again when more is known.

        Raises:
            MachineError: it cannot be written.
        """
        write_whole(Path(self.live) / "job.json", msgspec.json.encode(self))


@dataclass(frozen=True)
class JobProcesses:
    """The processes of a run.

    Attributes:
        roles: what each is in the run: the supervisor first, then the workers by rank.
        pulses: of those whose work the run is waiting for, by rank.
        missing: ranks of workers that are gone.
    """

    roles: Mapping[int, str]
    pulses: tuple[PulseReading, ...] = ()
    missing: tuple[int, ...] = ()


def live_jobs() -> list[LiveJob]:
    """The user's live jobs, newest first."""
    jobs: list[LiveJob] = []
    for folder, owner in live_folders():
        # A job that is just starting has no job.json yet; not every live folder is a job's.
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            job = msgspec.json.decode((folder / "job.json").read_bytes(), type=LiveJob)
            jobs.append(replace(job, process=owner, live=str(folder)))
    return sorted(jobs, key=lambda job: job.started_at, reverse=True)


def read_pulses(live: Path) -> Readings:
    """The last pulses of a job; a planner that has ended is left out."""
    planner = read_pulse(live / "planner.pulse")
    workers = (read_pulse(path) for path in sorted(live.glob("rank-*.pulse")))
    return Readings(
        planner=planner if planner and is_alive(planner.pid) else None,
        workers=tuple(reading for reading in workers if reading),
        reader=read_pulse(live / "reader.pulse"),
        stall=read_note(live),
    )


def copy_pulses(live: Path, folder: Path) -> None:
    """Copy the last pulses to the run's folder, which other machines may share."""
    write_lightly(folder / "pulse.json", msgspec.json.encode(read_pulses(live)))


def _read_copied_pulses(folder: Path) -> Readings:
    """The pulses of a job of another machine or user, up to a second old, by its own clock."""
    try:
        return msgspec.json.decode((folder / "pulse.json").read_bytes(), type=Readings)
    except (OSError, msgspec.MsgspecError):
        return Readings()


def find_status(run: str | None, output_dir: Path) -> Status:
    """The status of a run, by name or folder; by default the newest live job, else newest run.

    Raises:
        UsageError: there is no such run.
    """
    for job in live_jobs():
        if _matches(job, run, output_dir):
            return job_status(job)
    return run_status(find_run(run, output_dir))


def same_run(before: Status) -> Status:
    """The status of the run again: as it is now, or as it was left."""
    if before.folder:
        return run_status(RunFolder(Path(before.folder)))
    job = next((job for job in live_jobs() if job.process.pid == before.pid), None)
    return job_status(job) if job else before


def find_process(status: Status) -> ProcessId | None:
    """The process that trains or plans a run, proved to be the one; None if none runs.

    Raises:
        UsageError: the run is locked, and nothing proves which process does it.
    """
    for job in live_jobs():
        if job.process.pid == status.pid and job.folder == status.folder:
            return job.process
    if not status.folder:
        return None
    lock = RunFolder(Path(status.folder)).lock
    process = running_owner(lock)
    if process is None and is_held(lock):
        raise _unproven(status, lock)
    return process


def job_processes(status: Status) -> JobProcesses:
    """The processes of a run that is live on this machine, and their pulses."""
    jobs = [job for job in live_jobs() if _is_of(job, status)]
    readings = [read_pulses(Path(job.live)) for job in jobs]
    planner = next((one.planner for one in readings if one.planner), None)
    workers = sorted(
        (pulse for one in readings for pulse in one.workers), key=lambda pulse: pulse.rank
    )
    supervisors = [job.process.pid for job in jobs] or [status.pid]
    if status.folder and _is_guarded(Path(status.folder)):
        # Its pulse says what it watches, not what it does itself.
        return JobProcesses(dict.fromkeys(supervisors, "guard"))
    roles = dict.fromkeys(supervisors, "supervisor")
    for pulse in workers:
        roles[pulse.pid] = f"worker {pulse.rank}" if len(workers) > 1 else "trainer"
    if planner:
        roles[planner.pid] = "planner"
    return JobProcesses(
        roles=roles,
        # While it plans, its workers only wait for that.
        pulses=(planner,) if planner else tuple(workers),
        missing=tuple(pulse.rank for pulse in workers if not is_alive(pulse.pid)),
    )


def _is_guarded(folder: Path) -> bool:
    watched = _watched(folder)
    return watched is not None and watched.by == "guard"


def _watched(folder: Path) -> WatchedRun | None:
    """The run of another program in a folder; None if it is none."""
    with contextlib.suppress(OSError, msgspec.MsgspecError, UsageError):
        return load_watched(folder)
    return None


def _is_of(job: LiveJob, status: Status) -> bool:
    """Whether a job is one of a run: a launcher may have started several for it."""
    if job.process.pid == status.pid:
        return True
    return bool(job.folder) and Path(job.folder).resolve() == Path(status.folder or "?").resolve()


def all_statuses(output_dir: Path) -> list[Status]:
    """The status of every run in a folder: live ones, then the others, newest first."""
    live = [job_status(job) for job in live_jobs() if _matches(job, None, output_dir)]
    listed = {Path(status.folder).resolve() for status in live if status.folder}
    others = [run for run in list_runs(output_dir) if run.path.resolve() not in listed]
    return live + [run_status(run) for run in others]


def job_status(job: LiveJob) -> Status:
    """The status of a live job, which may still be planning and have no folder."""
    folder = RunFolder(Path(job.folder)) if job.folder else None
    owner = owner_of(folder.lock) if folder else None
    if folder and owner and owner.pid == job.process.pid:
        return run_status(folder)
    # It does not own the folder yet: the files there are an earlier attempt's.
    progress = Progress(job.run, job.folder, pid=job.process.pid)
    return progress.status(read_pulses(Path(job.live)), time.monotonic(), wall_s=time.time())


def run_status(folder: RunFolder) -> Status:
    """The status of the run in a folder, running or not."""
    # An empty lock was released; testing it could get in the way of a new owner.
    owner = owner_of(folder.lock)
    running = owner is not None and is_held(folder.lock)
    receipt = _receipt(folder.path)
    progress = Progress(
        folder.path.name,
        str(folder.path),
        _aim(folder.path),
        skipped=sum(receipt.rows.rejected.values()) if receipt else 0,
    )
    for entry in EventReader(folder.events).new():
        progress.take(entry)
    status = progress.status(
        _pulses(folder, owner) if owner and running else Readings(),
        time.monotonic(),
        wall_s=time.time(),
        living=running,
    )
    if status.state == "died" and receipt and receipt.attempts == status.attempt:
        # Killed between its receipt and its last event: the work was done.
        return replace(status, state=receipt.outcome, line=receipt.line)
    if status.state == "died" and (watched := _watched(folder.path)):
        return replace(status, line=_LOST[watched.by])
    if status.state == "planned" and receipt and not folder.events.exists():
        lost = f"{receipt.line} (its log, events.jsonl, was deleted)"
        return replace(status, state=receipt.outcome, step=receipt.steps.applied, line=lost)
    return status


def _pulses(folder: RunFolder, owner: Owner) -> Readings:
    live = Path(owner.live)
    # Anybody may have written the lock file: only this user's own live folders are read.
    if owner.host == socket.gethostname() and live.parent in runtime_folders():
        return read_pulses(live)
    return _read_copied_pulses(folder.path)


def _matches(job: LiveJob, run: str | None, output_dir: Path) -> bool:
    if run is not None and job.folder and Path(run).resolve() == Path(job.folder).resolve():
        return True
    same_folder = Path(job.output_dir).resolve() == output_dir.resolve()
    return same_folder and run in (None, job.run)


@dataclass(frozen=True)
class _Steps:
    first: int
    num: int


@dataclass(frozen=True)
class _Time:
    seconds: float | None


@dataclass(frozen=True)
class _PlanNumbers:
    """The numbers of plan.json or watched.json that a status needs; the others are ignored."""

    steps: _Steps
    time: _Time


def _aim(folder: Path) -> Aim | None:
    for name in ("plan.json", WATCHED):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            plan = msgspec.json.decode((folder / name).read_bytes(), type=_PlanNumbers)
            return Aim(plan.steps.first, plan.steps.num, plan.time.seconds)
    return None


def _unproven(status: Status, lock: Path) -> UsageError:
    owner = owner_of(lock)
    what = f"process {owner.pid} on {owner.host}" if owner else "no process"
    return UsageError(
        f"cannot tell which process trains {status.run}",
        cause=Cause.RUN_ACTIVE,
        have=f"{lock} names {what}, which is not known to hold it",
        need="the process that holds the lock",
        remedies=(Remedy(f"fuser -v {shlex.quote(str(lock))}", "shows it"),),
    )


def _receipt(folder: Path) -> Receipt | None:
    try:
        return load_receipt(folder)
    except (OSError, msgspec.MsgspecError, UsageError):
        return None
