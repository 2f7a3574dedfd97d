"""Fork server: a process that has imported what its children need, and forks one for each request.

A child starts in milliseconds, shares what was imported with the others, and begins with a state
that no child before it has touched. The server never computes: it has one thread when it forks.

The server ends with the process that started it, and its children end with the server. Linux only:
elsewhere, and whenever the server cannot take a request, a process is started as usual.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

import msgspec

from headway.base.host.child_main import OWNER_VARIABLE, end_with_parent
from headway.base.process import PULSE_VARIABLE, REPORT_VARIABLE, ChildProcess

OPTION = "--serve"  # of a module that can be a server; a descriptor follows
_READY = b"ready"
_OWN_VARIABLES = (PULSE_VARIABLE, REPORT_VARIABLE)  # each child has its own
_START_S = 120.0  # for the server's imports, before a request does without it
_ANSWER_S = 10.0  # for a fork


class ForkRequest(msgspec.Struct, frozen=True):
    """A child to fork; its descriptors come along: input, output, error, report and status."""

    module: str
    arguments: list[str]
    variables: dict[str, str]


class ForkServer:
    """A server of one module, as the process that started it sees it.

    Args:
        module: what `python -m` runs; it calls `serve` when `is_server`.
        arguments: for its imports.
        also: modules whose imports are among its own; `serve` says which one a child is to run.
        environment: its variables, and those of its children.
        log: a file that keeps its standard error.
    """

    def __init__(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        also: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self._modules = (module, *also)
        self._environment: dict[str, str] = {}
        self._began_s = time.monotonic()
        self._is_ready = False
        self._one_at_a_time = threading.Lock()
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = ChildProcess(
                module,
                [OPTION, str(theirs.fileno()), *arguments],
                environment=environment,
                log=log,
                log_stdout=log is not None,
                stdin=subprocess.DEVNULL,
                descriptors=(theirs.fileno(),),
                spawn=self._start,
            )

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has what it takes."""
        return hasattr(os, "pidfd_open") and hasattr(socket, "SOCK_SEQPACKET")

    @property
    def is_ready(self) -> bool:
        """Whether it has imported everything, and is there."""
        return self._wait_until_ready(0.0)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended; it may still import."""
        return self._process.is_running

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def close(self) -> None:
        """End it, and with it every child that is still there."""
        self._channel.close()
        self._process.end()

    def spawn(self, command: Sequence[str], **options: Any) -> Any:
        """Start a child: `subprocess.Popen` for those arguments that a `ChildProcess` gives.

        Any thread may call it.

        Raises:
            OSError: it cannot be started.
        """
        with self._one_at_a_time:
            can_fork = self._takes(command, options) and self._wait_until_ready(
                _START_S - (time.monotonic() - self._began_s)
            )
            with contextlib.suppress(OSError):  # it is gone: the child is started without it
                if can_fork:
                    return self._fork(command, options)
        return subprocess.Popen(command, **options)

    def _start(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
        self._environment = _without_own(options["env"])
        return subprocess.Popen[bytes](command, **options)

    def _takes(self, command: Sequence[str], options: Mapping[str, Any]) -> bool:
        """Whether a child of the server would be what is asked for."""
        return (
            _without_own(options["env"]) == self._environment
            and not set(self._modules).isdisjoint(command)
            and options["stdin"] in (subprocess.PIPE, subprocess.DEVNULL)
            and options["stdout"] is not None
            and options["stdout"] is options["stderr"]
            and options["start_new_session"]
            and len(options["pass_fds"]) == 1
        )

    def _wait_until_ready(self, limit_s: float) -> bool:
        if self._is_ready or not self._process.is_running:
            return self._is_ready and self._process.is_running
        if select.select([self._channel], [], [], max(limit_s, 0.0))[0]:
            with contextlib.suppress(OSError):
                self._is_ready = self._channel.recv(len(_READY)) == _READY
        return self._is_ready

    def _fork(self, command: Sequence[str], options: Mapping[str, Any]) -> "ForkedProcess":
        module = next(name for name in self._modules if name in command)
        arguments = list(command[command.index(module) + 1 :])
        given = options["env"]
        variables = {name: given[name] for name in _OWN_VARIABLES if name in given}
        stdin: IO[bytes] | None = None
        with contextlib.ExitStack() as files:
            if options["stdin"] == subprocess.PIPE:
                theirs, ours = os.pipe()
                stdin = open(ours, "wb")  # noqa: PTH123, SIM115 - a descriptor, closed by its user
            else:
                theirs = os.open(os.devnull, os.O_RDONLY)
            files.callback(os.close, theirs)
            status, theirs_status = os.pipe()
            files.callback(os.close, theirs_status)
            output = options["stdout"].fileno()
            passed = [theirs, output, output, options["pass_fds"][0], theirs_status]
            message = msgspec.json.encode(ForkRequest(module, arguments, variables))
            try:
                socket.send_fds(self._channel, [message], passed)
                return ForkedProcess(self._answer(), status, stdin)
            except BaseException:
                os.close(status)
                if stdin:
                    stdin.close()
                raise

    def _answer(self) -> int:
        """The number of the child.

        Raises:
            OSError: there is none.
        """
        if not select.select([self._channel], [], [], _ANSWER_S)[0]:
            self.close()  # else it might fork a child that nobody knows
            raise TimeoutError("the fork server does not answer")
        pid = int(self._channel.recv(32) or b"0")
        if pid <= 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid


def _without_own(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name not in _OWN_VARIABLES}


class ForkedProcess:
    """A child of a server: as much of `subprocess.Popen` as a `ChildProcess` uses.

    Args:
        pid: its number.
        status: a descriptor that gets its exit code.
        stdin: a pipe to its standard input.
    """

    stdout = None

    def __init__(self, pid: int, status: int, stdin: IO[bytes] | None) -> None:
        self.pid, self.stdin = pid, stdin
        self._status = status
        self._code: int | None = None
        try:
            self._handle = os.pidfd_open(pid)
        except ProcessLookupError:  # it has ended already
            self._handle = -1

    def poll(self) -> int | None:
        """Its exit code, negative for a signal; None while it is running."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0.0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; returns its exit code.

        Raises:
            subprocess.TimeoutExpired: it has not.
        """
        if self._code is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            # Without a word, the server was killed, and its children with it.
            self._code = int(os.read(self._status, 16) or -signal.SIGKILL)
            os.close(self._status)
            if self._handle >= 0:
                os.close(self._handle)
        return self._code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.poll() is None and self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, number)


# ---- the server itself -------------------------------------------------------------------------


def leave(code: int) -> NoReturn:
    """End this process; a fork does not free what it shares, because that would copy it first."""
    if OPTION in sys.orig_argv and not is_server():
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def is_server() -> bool:
    """Whether this process was started as a server."""
    return OPTION in sys.argv


def serve(preload: Callable[[], object]) -> str:
    """Fork a child for each request. Returns in the children, which then are what was asked for.

    Args:
        preload: imports what they need; it leaves no thread behind.

    Returns:
        The module that the child is to run.
    """
    end_with_parent()
    preload()
    channel = socket.socket(fileno=int(sys.argv[sys.argv.index(OPTION) + 1]))
    owner, server = os.getppid(), os.getpid()
    children: dict[int, _Child] = {}  # by a descriptor that can be read once it has ended
    channel.send(_READY)
    while True:
        ready = select.select([channel, *children], [], [])[0]
        for handle in ready:
            if isinstance(handle, int):
                children.pop(handle).tell_end(handle)
        if channel not in ready:
            continue
        message, descriptors, *_ = socket.recv_fds(channel, 1 << 16, 8)
        if not message:
            os._exit(0)  # its parent is gone
        *own, status = descriptors
        pid = _fork()
        if pid == 0:
            _close([channel.detach(), status, *_descriptors_of(children)])
            request = msgspec.json.decode(message, type=ForkRequest)
            _become(request, own, owner, server)
            return request.module
        _close(own)
        if pid > 0:
            children[os.pidfd_open(pid)] = _Child(pid, status)
        else:
            os.close(status)
        channel.send(str(pid).encode())


def _fork() -> int:
    """Fork; the negative number of an error if that cannot be done."""
    with warnings.catch_warnings():
        # Python 3.12 counts the threads of BLAS, which the child starts again.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return os.fork()
        except OSError as error:
            return -(error.errno or 1)


class _Child(msgspec.Struct, frozen=True):
    pid: int
    status: int  # a descriptor that gets its exit code

    def tell_end(self, handle: int) -> None:
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with contextlib.suppress(OSError):  # nobody wants to know
            os.write(self.status, str(code).encode())
        _close([handle, self.status])


def _descriptors_of(children: Mapping[int, _Child]) -> Iterator[int]:
    for handle, child in children.items():
        yield from (handle, child.status)


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become(request: ForkRequest, descriptors: Sequence[int], owner: int, server: int) -> None:
    """Turn a fork into the process that was asked for."""
    os.environ[OWNER_VARIABLE] = str(owner)
    end_with_parent()
    if os.getppid() != server:  # it ended before
        os._exit(1)
    os.setsid()
    *streams, report = descriptors
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    _close(streams)
    os.environ.update(request.variables)
    os.environ[REPORT_VARIABLE] = str(report)
    sys.argv[1:] = request.arguments
