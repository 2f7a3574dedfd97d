"""Keeper: a process between the guard and a command, which starts it and waits for it.

It is forked before the guard has any thread, so that it can fork safely, and again for each
restart. It leads a session of its own where the command gets a terminal of its own; it adopts
what outlives the command (PR_SET_CHILD_SUBREAPER); and it ends the command if the guard is killed,
as the command itself would have been.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import socket
import sys
import termios
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

import msgspec

from headway.guard.command.surroundings import Surroundings

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_PTRACER = 0x59616D61
_STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class Happened(StrEnum):
    """What the keeper tells of a command."""

    STARTED = "started"
    FAILED = "failed"  # to start
    STOPPED = "stopped"
    CONTINUED = "continued"
    ENDED = "ended"


@dataclass(frozen=True)
class KeeperNews:
    """What happened to a command.

    Attributes:
        happened: to it.
        value: its pid, the error's number, the signal that stopped it, or its exit code.
        cpu_s: of the ended command and its children.
        peak_bytes: resident memory of the largest of them.
    """

    happened: Happened
    value: int = 0
    cpu_s: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Launch:
    """How a command is started.

    Attributes:
        program: the file.
        command: its arguments, the first one its own name.
        streams: descriptors that become its standard input, output and error.
        surroundings: its variables and signals.
        terminal: descriptor of the terminal that becomes its own, -1 for none.
        foreground: descriptor of the shared terminal that it reads from, -1 for none.
    """

    program: str
    command: tuple[str, ...]
    streams: tuple[int, int, int]
    surroundings: Surroundings
    terminal: int = -1
    foreground: int = -1


class Keeper:
    """The guard's side of the keeper.

    Args:
        launch: how the command is started.
        closed: descriptors of the guard that the keeper must not hold open.
        restore: called in the keeper if the guard was killed, before it ends.

    Attributes:
        pid: of the keeper; whatever the command starts is below it.
        news: readable when something happened.
    """

    def __init__(
        self, launch: Launch, closed: Sequence[int] = (), restore: Callable[[], None] | None = None
    ) -> None:
        self.news, theirs = socket.socketpair()
        guard = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            self.news.close()
            for descriptor in closed:
                os.close(descriptor)
            _KeeperProcess(launch, theirs, guard, restore).serve()
        theirs.close()
        self._rest = b""

    def start(self) -> None:
        """Start the command, for the first time or again."""
        self.news.sendall(b"\n")

    def read(self) -> list[KeeperNews]:
        """What happened since the last call; waits for something if nothing did."""
        data = self.news.recv(1 << 16)
        if not data:
            return [KeeperNews(Happened.ENDED, 128 + signal.SIGKILL)]  # the keeper was killed
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [msgspec.json.decode(line, type=KeeperNews) for line in lines]

    def close(self) -> None:
        """End the keeper; what it adopted goes to the system."""
        self.news.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class _KeeperProcess:
    """The keeper's own side."""

    def __init__(
        self,
        launch: Launch,
        news: socket.socket,
        guard: int,
        restore: Callable[[], None] | None,
    ) -> None:
        self._launch, self._news, self._guard, self._restore = launch, news, guard, restore
        self._child = 0

    def serve(self) -> NoReturn:
        """Start the command whenever the guard asks; ends with the guard."""
        try:
            self._prepare()
            while self._news.recv(1):
                self._start()
                self._wait()
        except BaseException:  # a fork must never return into its parent's code
            os._exit(1)
        os._exit(0)

    def _prepare(self) -> None:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
            if signal.getsignal(number) is not None:
                signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if self._launch.terminal >= 0:
            os.setsid()
            fcntl.ioctl(self._launch.terminal, termios.TIOCSCTTY, 0)
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None)
            self._libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
            signal.signal(signal.SIGTERM, self._end_with_guard)
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            self._end_with_guard()

    def _end_with_guard(self, *_: object) -> None:
        """If the guard is gone, so is the command, as if it had been killed itself."""
        if os.getppid() == self._guard:
            return  # a SIGTERM of somebody else
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGKILL)
        if self._restore:
            self._restore()
        os._exit(1)

    def _tell(self, news: KeeperNews) -> None:
        self._news.sendall(msgspec.json.encode(news) + b"\n")

    def _start(self) -> None:
        failure, theirs = os.pipe()
        self._child = os.fork()
        if not self._child:
            self._become(theirs)
        os.close(theirs)
        with contextlib.suppress(OSError):  # the child has done it already
            os.setpgid(self._child, self._child)
        problem = os.read(failure, 16)
        os.close(failure)
        if problem:
            os.waitpid(self._child, 0)
            self._child = 0
            self._tell(KeeperNews(Happened.FAILED, int(problem)))
        else:
            self._tell(KeeperNews(Happened.STARTED, self._child))

    def _become(self, failure: int) -> NoReturn:
        """Turn this process, just forked, into the command."""
        launch, number = self._launch, errno.EINVAL
        try:
            os.setpgid(0, 0)
            for terminal in (launch.terminal, launch.foreground):
                if terminal >= 0:
                    os.tcsetpgrp(terminal, os.getpid())  # SIGTTOU is still ignored
            if sys.platform == "linux":
                self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                self._libc.prctl(_PR_SET_PTRACER, self._guard)  # stacks may be read
            # Copies above 2 first: one of the three may have the number of another.
            copies = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 3) for one in launch.streams]
            for stream, copy in enumerate(copies):
                os.dup2(copy, stream, inheritable=True)
            launch.surroundings.enter()
            _execute(launch)
        except OSError as error:
            number = error.errno or errno.EINVAL
        finally:
            os.write(failure, str(number).encode())
            os._exit(127)

    def _wait(self) -> None:
        """Wait until the command has ended; what it left behind is waited for, too."""
        while self._child:
            pid, status, used = os.wait4(-1, os.WUNTRACED | os.WCONTINUED)
            if pid != self._child:
                continue
            if os.WIFSTOPPED(status):
                self._tell(KeeperNews(Happened.STOPPED, os.WSTOPSIG(status)))
            elif os.WIFCONTINUED(status):
                self._tell(KeeperNews(Happened.CONTINUED))
            else:
                code = os.waitstatus_to_exitcode(status)
                self._child = 0
                self._tell(
                    KeeperNews(
                        Happened.ENDED,
                        code if code >= 0 else 128 - code,
                        used.ru_utime + used.ru_stime,
                        used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
                    )
                )


def _execute(launch: Launch) -> None:
    """Become the program; a script without a first line is read by the shell, as shells do.

    Raises:
        OSError: it cannot be started.
    """
    environment = launch.surroundings.environment
    try:
        os.execve(launch.program, launch.command, environment)  # noqa: S606 - what was asked for
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        shell = ("sh", launch.program, *launch.command[1:])
        os.execve("/bin/sh", shell, environment)  # noqa: S606


def is_job_control(number: int) -> bool:
    """Whether a signal stopped a command as Ctrl+Z does, rather than by SIGSTOP."""
    return number in _STOPS
