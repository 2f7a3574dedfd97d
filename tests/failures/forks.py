"""A process with torch imported and unused, which forks a trainer whenever it is told to.

Starting one takes some milliseconds in place of seconds; what the child then runs is the real
`main` of the trainer's process, from its first line to its exit code.

    python forks.py        reads one `Order` a line, writes one `Told` a line, as JSON
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.mutants import checked

LIMIT_S = 60.0


@dataclass(frozen=True)
class Order:
    """One trainer."""

    run: str
    signals: Sequence[tuple[float, int]] = ()  # seconds after the fork, number
    mutant: str = ""  # code that runs first


@dataclass(frozen=True)
class Told:
    """How it ended."""

    code: int  # minus the signal that ended it
    seconds: float
    after_s: float  # from the last signal to the end


class Forks:
    """The other end: one server, any number of trainers one after the other."""

    def __init__(self, threads: int = 1) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path.cwd())}
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def train(self, run: Path, *signals: tuple[float, int], mutant: str = "") -> Told:
        """Run a trainer to its end, sending it signals on the way."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = Order(str(run), signals, mutant)
        self.process.stdin.write(json.dumps(asdict(order)) + "\n")
        self.process.stdin.flush()
        return Told(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


def serve() -> None:
    from headway.model.load import warm_up
    from headway.training import attempt  # noqa: F401 - imported for the children
    from headway.training.trials import speed

    warm_up(adapters=True)
    speed._MEASURE_S = 0.0  # matrix products for the receipt alone
    (_,) = Path("/proc/self/task").iterdir()  # what has threads cannot be forked safely
    for line in sys.stdin:
        plain: dict[str, Any] = json.loads(line)
        print(json.dumps(asdict(forked(Order(**plain)))), flush=True)


def forked(order: Order) -> Told:
    began_s = time.monotonic()
    pid = os.fork()
    if not pid:
        work(order)
    told_s = began_s
    for after_s, number in order.signals:
        while time.monotonic() - began_s < after_s:
            time.sleep(0.001)
            if code := ended(pid):
                return Told(code - 1000, time.monotonic() - began_s, time.monotonic() - told_s)
        os.kill(pid, number)
        told_s = time.monotonic()
    while time.monotonic() - began_s < LIMIT_S:
        if code := ended(pid):
            return Told(code - 1000, time.monotonic() - began_s, time.monotonic() - told_s)
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise AssertionError("it took no end")


def ended(pid: int) -> int:
    """1000 and the exit code; 0 while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return 1000 + os.waitstatus_to_exitcode(status) if found else 0


def work(order: Order) -> None:
    """In the child: what `python -m headway.training.worker RUN` does."""
    from headway.training import worker

    code = 1
    try:
        os.dup2(2, 1)
        exec(checked(order.mutant), {})
        code = worker.main([order.run])
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
