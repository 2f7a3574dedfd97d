"""Lives of an inbox's daemon: real processes, killed for real, without the time to import.

One process has imported everything and forks a daemon for each life. The daemon runs `headway inbox
start` from its first line, and what it starts (the training process, its servers, planner, trainer,
measurement) is forked as well, where it would be executed: a life begins in milliseconds.

    python lives.py        reads one `Life` a line, writes one `Death` a line, as JSON
"""

import contextlib
import ctypes
import importlib
import inspect
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

LIMIT_S = 100.0
_POLL_S = 0.002
_PR_SET_CHILD_SUBREAPER = 36
_MODULES = (
    *("base.pulse", "cli", "commands.services.inbox", "inbox.arriving.arrivals", "inbox.service"),
    *("inbox.training_process", "supervise.planner", "supervise.supervisor", "training.worker"),
    *("training.attempt", "training.inference.answer", "training.trials.speed"),
)


@dataclass(frozen=True)
class Life:
    """One daemon, and how it ends.

    Attributes:
        inbox: its folder.
        words: after `headway inbox start`.
        drops: files that arrive meanwhile: seconds after the start, and what is copied.
        kill_s: seconds after the start; None: it is not killed by the clock.
        point: it is killed when a process of its renames something to a path like this, a
            regular expression; "" for none.
        is_after: once it was renamed, instead of just before.
        takes_all: every process dies at once, as with the machine; else the daemon dies, and the
            others hear of it.
    """

    inbox: str
    words: Sequence[str] = ()
    drops: Sequence[tuple[float, str]] = ()
    kill_s: float | None = None
    point: str = ""
    is_after: bool = False
    takes_all: bool = False


@dataclass(frozen=True)
class Death:
    """How it ended.

    Attributes:
        code: exit code, minus a signal.
        seconds: that it lived.
        num_dropped: of the files that were to arrive.
    """

    code: int
    seconds: float
    num_dropped: int


class Lives:
    """The other end: one server, any number of daemons, one at a time."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._log = (folder / "lives.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=folder,
            env=environment | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def begin(self, life: Life) -> None:
        """Start a daemon."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(life)) + "\n")
        self._process.stdin.flush()

    def end(self) -> Death:
        """Wait until it has ended."""
        assert self._process.stdout is not None
        return Death(**json.loads(self._process.stdout.readline()))

    def wait_for_orphans(self) -> None:
        """Wait until nothing is left of the daemons that died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()


# ---- the server --------------------------------------------------------------------------------


def serve() -> None:
    """Import everything; then one daemon after the other."""
    _import_everything()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what outlives a daemon is ours to see
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(asdict(_live(Life(**json.loads(line))))), flush=True)
        else:
            _wait_for_orphans()
            print(flush=True)


def _import_everything() -> None:
    modules: dict[str, Any] = {
        name: importlib.import_module(f"headway.{name}") for name in _MODULES
    }
    for name in ("supervise.planner", "training.worker"):
        load = modules[name]._import_libraries
        load(modules["base.pulse"].Pulse(None), **({"adapters": False} if "worker" in name else {}))
    modules["training.trials.speed"]._MEASURE_S = 0.0  # matrix products for the receipt alone
    modules["inbox.arriving.arrivals"].SETTLED_S = 0.1  # files arrive by a rename: nobody writes
    (_,) = Path("/proc/self/task").iterdir()  # what has threads cannot be forked safely


def _live(life: Life) -> Death:
    began_s = time.monotonic()
    _reap()
    daemon = os.fork()
    if not daemon:
        _be_daemon(life)
    drops, code, end_s = list(life.drops), 0, began_s + LIMIT_S
    while not code:
        now_s = time.monotonic()
        while drops and now_s - began_s >= drops[0][0]:
            _drop(Path(drops.pop(0)[1]), Path(life.inbox))
        if now_s > end_s:
            raise TimeoutError(f"{life} does not end")
        if life.kill_s is not None and now_s > began_s + life.kill_s:
            others = _descendants(daemon) if life.takes_all else []
            for pid in (daemon, *others):
                _kill(pid)
        time.sleep(_POLL_S)
        code = _ended(daemon)
    seconds = time.monotonic() - began_s
    if life.takes_all:
        _kill_orphans()
    return Death(code - 1000, seconds, len(life.drops) - len(drops))


def _kill_orphans() -> None:
    """Kill what is left of a daemon's processes."""
    while _children():
        for pid in _descendants(os.getpid()):
            _kill(pid)
        _reap()
        time.sleep(_POLL_S)


def _wait_for_orphans() -> None:
    """Wait until they have ended by themselves."""
    while _children():
        _reap()
        time.sleep(_POLL_S)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _drop(source: Path, inbox: Path) -> None:
    inbox.mkdir(exist_ok=True)
    part = inbox / f"{source.name}.part"
    shutil.copyfile(source, part)
    part.rename(inbox / source.name)


def _ended(pid: int) -> int:
    """1000 and the exit code; 0 while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return 1000 + os.waitstatus_to_exitcode(status) if found else 0


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children(pid: int = 0) -> list[int]:
    own = pid or os.getpid()
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{own}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _descendants(pid: int) -> list[int]:
    return [one for child in _children(pid) for one in (child, *_descendants(child))]


# ---- in a daemon, and in what it starts ----------------------------------------------------------


def _be_daemon(life: Life) -> NoReturn:
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)
        os.setsid()
        if life.point:
            sys.addaudithook(_Point(life))
        _popen._execute_child = _fork_instead
        from headway import cli

        words = ["inbox", "start", life.inbox, *life.words]
        sys.argv = ["headway", *words]
        code = cli.run(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


class _Point:
    """Kills the daemon where one of its processes gives something its name."""

    def __init__(self, life: Life) -> None:
        self._daemon, self._life = os.getpid(), life
        self._path = re.compile(life.point)
        self._is_next = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._is_next:
            self._strike()
        if event == "os.rename" and self._path.search(os.fsdecode(arguments[1])):
            if not self._life.is_after:
                self._strike()
            self._is_next = True

    def _strike(self) -> None:
        self._is_next = False
        _kill(self._daemon)
        if self._life.takes_all:
            os.kill(os.getpid(), signal.SIGKILL)


_PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
_popen: Any = subprocess.Popen
_execute = _popen._execute_child
_signature = inspect.signature(_execute)


def _fork_instead(popen: Any, *arguments: Any) -> None:
    """What `subprocess.Popen` does; a module of ours is run in a fork, and not executed."""
    given = _signature.bind(popen, *arguments).arguments
    words = given["args"]
    is_ours = not isinstance(words, str) and list(words)[1:3] == ["-P", "-m"]
    if not is_ours or len(list(Path("/proc/self/task").iterdir())) > 1:
        _execute(popen, *arguments)
        return
    sys.stdout.flush()
    sys.stderr.flush()
    popen.pid = os.fork()
    if popen.pid:
        popen._child_created = True
        popen._close_pipe_fds(
            *(
                given[n]
                for n in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
            )
        )
        return
    code = 1
    try:
        code = _become(given)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _become(given: dict[str, Any]) -> int:
    """Turn a fork into what would have been executed; returns its exit code."""
    streams = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
    for number, descriptor in enumerate(streams):
        if descriptor >= 0:
            os.dup2(descriptor, number)
    kept = {0, 1, 2, *given["pass_fds"]}
    for path in list(Path("/proc/self/fd").iterdir()):
        if int(path.name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(path.name))
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if given["start_new_session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(given["env"])
    words = list(given["args"])
    sys.orig_argv, sys.argv = words, words[3:]
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for as long as it lives
    warnings.simplefilter("ignore", RuntimeWarning)  # that it was imported before
    try:
        runpy.run_module(words[3], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        sys.stdout.flush()
        sys.stderr.flush()
        return end.code if isinstance(end.code, int) else 1
    return 0


if __name__ == "__main__":
    serve()
