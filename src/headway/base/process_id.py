"""Process identity: process id and start time, which no other process has.

The system gives numbers of dead processes to new ones. A number alone may therefore mean a process
of somebody else by the time it is used.
"""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ProcessId:
    """A process of this machine.

    Attributes:
        pid: its number.
        started: when it started, in the system's own unit; 0 if unknown.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has this number now; None if it is none, or a zombie."""
        started = _start_time(pid)
        return None if started is None else cls(pid, started)

    @classmethod
    def mine(cls) -> "ProcessId":
        """The process that asks."""
        return cls(os.getpid(), _start_time(os.getpid()) or 0)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return ProcessId.of(self.pid) == self

    def send_signal(self, number: signal.Signals) -> bool:
        """Send a signal to this process, never to one that got its number since.

        Returns:
            Whether it was sent: False if the process has ended.

        Raises:
            PermissionError: it belongs to another user.
        """
        with suppress(ProcessLookupError):
            if not hasattr(os, "pidfd_open"):
                return self.is_alive and _kill(self.pid, number)
            try:
                descriptor = os.pidfd_open(self.pid)
            except OSError as error:
                if isinstance(error, ProcessLookupError | PermissionError):
                    raise
                return self.is_alive and _kill(self.pid, number)  # an old kernel
            try:
                # The descriptor holds on to one process: what is checked is what is signaled.
                if self.is_alive:
                    signal.pidfd_send_signal(descriptor, number)
                    return True
            finally:
                os.close(descriptor)
        return False

    def has_open(self, path: Path) -> bool:
        """Whether it has a file open, as the owner of a lock has; True where nothing tells."""
        if sys.platform != "linux":
            return True
        wanted = path.stat()
        with suppress(OSError):
            for descriptor in Path(f"/proc/{self.pid}/fd").iterdir():
                with suppress(OSError):
                    found = descriptor.stat()
                    if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                        return True
        return False


def is_alive(pid: int) -> bool:
    """Whether some process has this number and is not a zombie."""
    return ProcessId.of(pid) is not None


def is_stopped(pid: int) -> bool:
    """Whether a process was frozen by SIGSTOP; one that a debugger holds is not meant."""
    import psutil  # here: most commands never get this far

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    return False


def debugger_of(pid: int) -> int:
    """The debugger that holds a process; 0 for none, or where nothing tells.

    Who only takes its stack (py-spy) holds it for an instant and is none.
    """
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        (tracer,) = (int(line.split()[1]) for line in lines if line.startswith("TracerPid:"))
        name = Path(f"/proc/{tracer}/comm").read_text(encoding="utf-8") if tracer else ""
        return tracer if name.strip() not in ("", "py-spy") else 0
    return 0


def _kill(pid: int, number: signal.Signals) -> bool:
    os.kill(pid, number)
    return True


def _start_time(pid: int) -> int | None:
    """When a process started: clock ticks since boot, on Linux; None if it does not run."""
    if pid <= 0:
        return None
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        # The name, in parentheses, may contain anything; the state comes after it.
        fields = stat.rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    import psutil  # here: most commands never get this far

    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE:
            return round(process.create_time() * 1000)
    return None
