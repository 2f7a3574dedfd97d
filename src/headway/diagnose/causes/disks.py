"""Disks: full, slow, or locked by a process that is gone."""

from pathlib import PurePosixPath

from headway.base.errors import Remedy
from headway.base.units import size
from headway.diagnose.causes.roles import Spot, spots, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import find_frame, is_in, own_frame, python_frames, where
from headway.diagnose.causes.waits import Wait, wait_of
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import DiskFacts, Evidence, HeldLock, Link, ThreadFacts

_NOTHING_BYTES = 1 << 20  # free, at which nothing that trains can write any more
_WRITES = (
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "fsync",
    "fdatasync",
    "msync",
    "syncfs",
    "sync",
    "fallocate",
    "sync_file_range",
    "copy_file_range",
    "sendfile",
    "openat",
)
_LOCK_FILES = (
    "filelock",
    "torch/utils/file_baton",
    "portalocker",
    "fasteners",
    "lockfile",
    "zc/lockfile",
    "oslo_concurrency",
)


def find_disk_full(evidence: Evidence) -> Diagnosis | None:
    """A disk of the job has no room, and a thread that should be working does not compute."""
    full = next((one for one in evidence.machine.disks if _is_full(one)), None)
    if full is None:
        return None
    for spot in spots(evidence):
        if wait_of(spot.thread) is Wait.RUNS and not _tries_again(spot.thread):
            continue
        return diagnosis(
            StallCause.DISK_FULL,
            f"the disk of {full.path} is full",
            have=f"{size(full.free_bytes)} free of {size(full.total_bytes)}; {who(spot.process)} "
            f"is in {where(own_frame(spot.thread))}",
            need="free space; what was being written is incomplete",
            remedies=(
                Remedy(f"df -h {full.path}", "shows what is free"),
                Remedy(f"du -xh --max-depth=2 {full.path} | sort -h | tail", "shows what is large"),
            ),
            pid=spot.process.pid,
        )
    return None


def _is_full(disk: DiskFacts) -> bool:
    return disk.total_bytes > 0 and disk.free_bytes < min(_NOTHING_BYTES, disk.total_bytes // 20)


def _tries_again(thread: ThreadFacts) -> bool:
    """Whether a running thread is in a call that writes."""
    return thread.call in _WRITES


def find_disk_slow(evidence: Evidence) -> Diagnosis | None:
    """A thread waits for a disk."""
    for spot in spots(evidence):
        thread = spot.thread
        if wait_of(thread) is not Wait.DISK:
            continue
        verb = "to write to" if thread.call in _WRITES or not thread.call else "to read from"
        path = _path(spot)
        folder = str(PurePosixPath(path).parent) if path else ""
        pressure = evidence.machine.io_pressure
        return diagnosis(
            StallCause.DISK_SLOW,
            f"{who(spot.process)} waits for a disk {verb} {path or 'a file'}",
            have=f"in {thread.call or thread.wait_channel or 'the kernel'}, state {thread.state}, "
            f"called from {where(own_frame(thread))}; {size(spot.process.written_bytes_per_s)}/s "
            f"written, {size(spot.process.read_bytes_per_s)}/s read; tasks wait for disks "
            f"{pressure:.0%} of the time",
            need="a disk that answers",
            remedies=(
                Remedy("iostat -x 1 3", "shows which disk is busy, and with what"),
                Remedy(
                    f"df -hT {folder or '.'}",
                    "shows which disk it is: a network disk (nfs, fuse) may have lost its server",
                ),
                Remedy("dmesg --level err,warn | tail", "shows errors of the disk"),
            ),
            pid=spot.process.pid,
        )
    return None


def _path(spot: Spot) -> str:
    """The file that a call works on; the only one that it has open to write, if that is clear."""
    files = [one for one in spot.process.open_files if one.link is Link.FILE]
    here = [one.path for one in files if one.descriptor == spot.thread.descriptor >= 0]
    return here[0] if here else ""


def find_lock_file(evidence: Evidence) -> Diagnosis | None:
    """A thread waits for a lock file or a file lock."""
    for spot in spots(evidence):
        lock = next((one for one in spot.process.locks if one.holder is None), None)
        frame = find_frame(spot.thread, *_LOCK_FILES)
        if lock is None and spot.process.locks and wait_of(spot.thread) is Wait.FILE_LOCK:
            lock = spot.process.locks[0]
        if lock is None and (frame is None or wait_of(spot.thread) is Wait.RUNS):
            continue
        caller = next(
            (one for one in python_frames(spot.thread) if not is_in(one, *_LOCK_FILES)), None
        )
        place = lock.path if lock else "a lock file"
        return diagnosis(
            StallCause.LOCK_FILE,
            f"{who(spot.process)} waits for {place}, which {_owner(lock)}",
            have=f"asked for by {where(caller)}",
            need="an owner that releases it; if no running process owns it, remove the file",
            remedies=_lock_remedies(spot, lock),
            pid=spot.process.pid,
            helps=Helps.PATIENCE if lock and lock.holder else None,
        )
    return None


def _owner(lock: HeldLock | None) -> str:
    if lock is None:
        return "another process holds or left behind"
    if lock.holder is None:
        return "no running process holds"
    return f"process {lock.holder} holds"


def _lock_remedies(spot: Spot, lock: HeldLock | None) -> tuple[Remedy, ...]:
    if lock and lock.holder:
        return (
            Remedy(f"ps -o pid,stat,etime,args -p {lock.holder}", "shows what its owner does"),
            Remedy(f"kill {lock.holder}", "if it is not needed any more"),
        )
    if lock:
        return (Remedy(f"rm {lock.path}", "its owner is gone: the wait ends at once"),)
    return (
        Remedy(
            "find ~/.cache /tmp -name '*lock*' -mmin +5 -exec ls -l {} +",
            "lists lock files older than 5 minutes; remove the one whose owner is gone",
        ),
        Remedy(f"lsof -p {spot.process.pid}", "shows which of them it has open"),
    )


DISK_FULL = CauseRow(
    StallCause.DISK_FULL,
    find_disk_full,
    "a disk that the job uses has less than 1 MB free, and the thread that should be working does "
    "not compute",
    "`df -h`, `du`: make room",
)
DISK_SLOW = CauseRow(
    StallCause.DISK_SLOW,
    find_disk_slow,
    "a thread is in state D, or in `fsync` or a write",
    "`iostat -x`, `df -hT`, `dmesg`",
)
LOCK_FILE = CauseRow(
    StallCause.LOCK_FILE,
    find_lock_file,
    "a thread waits in `filelock`, torch's `file_baton`, `flock` or `fcntl`, and no running "
    "process has the file",
    "remove the lock file, or end its owner",
)
