"""Limits on this process: processes, memory addresses, open files; and the refusals at a limit.

Libraries fail in their own ways at a limit, often without a word. So a limit is recognized by what
the system says it is, together with an error that it can cause.
"""

import errno
import os
import resource
from dataclasses import dataclass
from pathlib import Path

from headway.base.errors import Cause, MachineError, Refusal, Remedy
from headway.base.units import size

_PROC = Path("/proc")
_SPARE = 8  # threads in addition to the computing ones: saving, reading ahead, watching
_LIBRARIES_BYTES = 4 << 30  # of addresses: torch and its libraries reserve far more than they use


@dataclass(frozen=True)
class Limits:
    """What this process may have; None for no limit."""

    threads_left: int | None
    address_space: int | None  # bytes
    open_files: int | None


def this_process() -> Limits:
    """Read the limits; takes milliseconds, and a few more where threads are limited."""
    return Limits(_threads_left(), _limit(resource.RLIMIT_AS), _limit(resource.RLIMIT_NOFILE))


def limit_refusal(error: BaseException, limits: Limits) -> Refusal | None:
    """The refusal for an error that a limit caused; None if none did.

    An error's text is not looked at: it is the library's, and changes.

    Args:
        error: as a library raised it.
        limits: of this process.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EAGAIN:
        return too_few_processes(limits)
    if number == errno.EMFILE:
        return _too_few_files(limits)
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return address_space(limits) if limits.address_space else None
    # Libraries have no exception of their own for it: the limits themselves tell.
    return death_by_limit(limits) if isinstance(error, RuntimeError | ImportError) else None


def death_by_limit(limits: Limits, threads: int = 0) -> Refusal | None:
    """The refusal for a process that died without a word; None if no limit explains it.

    Args:
        limits: of the process that started it.
        threads: that it computes with, apart from the first.
    """
    if limits.threads_left is not None and limits.threads_left < threads + _SPARE:
        return too_few_processes(limits)
    if limits.address_space is not None and limits.address_space < _LIBRARIES_BYTES:
        return address_space(limits)
    return None


def too_few_processes(limits: Limits) -> MachineError:
    """The refusal where no further process or thread may be started."""
    left = limits.threads_left
    have = "no more can be started" if left is None else f"{max(left, 0)} more allowed (ulimit -u)"
    return MachineError(
        "too few processes and threads are allowed",
        cause=Cause.TOO_FEW_PROCESSES,
        have=have,
        need="some 20: a run is three processes, each with threads for every core",
        remedies=(
            Remedy("ulimit -u unlimited", "in the shell that starts it, if that is allowed"),
            Remedy("--threads 1", "fewer threads"),
            Remedy("docker run --pids-limit -1 ...", "in a container"),
        ),
    )


def address_space(limits: Limits) -> MachineError:
    """The refusal where a limit on addresses keeps memory from being reserved."""
    return MachineError(
        "the limit on address space is too low",
        cause=Cause.ADDRESS_SPACE_LIMIT,
        have=f"{size(limits.address_space or 0)} for each process (ulimit -v)",
        need="no limit: torch reserves far more addresses than it uses memory",
        remedies=(Remedy("ulimit -v unlimited", "in the shell that starts it"),),
    )


def _too_few_files(limits: Limits) -> MachineError:
    return MachineError(
        "too many open files",
        cause=Cause.TOO_FEW_OPEN_FILES,
        have=f"{limits.open_files or 'few'} allowed",
        need="256",
        remedies=(Remedy("ulimit -n 1024", "in the shell that starts it"),),
    )


def _limit(kind: int) -> int | None:
    value = resource.getrlimit(kind)[0]
    return None if value == resource.RLIM_INFINITY else value


def _threads_left() -> int | None:
    """How many more threads this user may start; root may start any number."""
    allowed = _limit(resource.RLIMIT_NPROC)
    if allowed is None or os.geteuid() == 0:
        return None
    return allowed - sum(map(_threads_of, _PROC.glob("[0-9]*/status")))


def _threads_of(status: Path) -> int:
    """Threads of a process, if it is this user's."""
    try:
        lines = status.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # it ended meanwhile
        return 0
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    if int(values["Uid"].split()[0]) != os.getuid():
        return 0
    return int(values["Threads"])
