"""Who is put through a case: how each is started, and what is found out about it afterwards."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from safetensors import SafetensorError
from safetensors.numpy import load_file
from trials import PEERS, environment

LIMIT_S = 240.0  # of a start, unless its case says less
_POLL_S = 0.002
# One thread each: what is asked is who notices, and two that wait for each other beside other work
# take seconds for a step of milliseconds.
_PLAIN = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Start:
    """One start of a training command.

    Attributes:
        args: settings of TrainingArguments and SFTConfig.
        headway: what is typed after `headway train`.
        data: file in the case's folder.
        resume: the others are asked to resume from their newest checkpoint.
        stream: the others read the data as a stream.
        max_length: of a row, for the others.
        act: does something to it while it runs.
        limit_s: it is ended after so many seconds.
        ulimit: "-v KIB" or "-f BLOCKS" of bash; "-v +MIB": so much more than the start before took.
    """

    args: dict[str, Any]
    headway: tuple[object, ...]
    data: str = "rows.jsonl"
    resume: bool = False
    stream: bool = False
    max_length: int = 256
    act: Callable[["Running"], None] | None = None
    limit_s: float = LIMIT_S
    ulimit: str = ""


@dataclass
class Running:
    """A command that runs."""

    process: "subprocess.Popen[bytes]"
    folder: Path  # of the case
    runs: Path  # where checkpoints appear
    num_steps: Callable[[], int]
    notes: dict[str, Any] = field(default_factory=dict[str, Any])

    def wait_for(self, what: Callable[[], Any], limit_s: float = 120.0) -> bool:
        """Wait until something is so; False if the command ended or took too long before."""
        end_s = time.monotonic() + limit_s
        while time.monotonic() < end_s and self.process.poll() is None:
            if what():
                return True
            time.sleep(_POLL_S)
        return False

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started; SIGKILL goes to all of its."""
        self.notes["steps"] = self.num_steps()
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self.process.pid, number)
            else:
                self.process.send_signal(number)


@dataclass(frozen=True)
class Facts:
    """What one start of a command came to.

    Attributes:
        exit_code: None if it was still running at its limit.
        seconds: that it ran.
        output: all that it printed.
        steps: finished ones, counted by the global step.
        moved: whether the final weights differ from the initial ones; None if there are none.
        finite: whether they are numbers.
        saved: step of the newest checkpoint that loads, 0 if there is none.
        address_space: the most that one of its processes had reserved, KiB.
        notes: what was done to it.
    """

    exit_code: int | None
    seconds: float
    output: str
    steps: int
    moved: bool | None
    finite: bool | None
    saved: int
    address_space: int
    notes: dict[str, Any]


class System:
    """A trainer.

    Args:
        name: as people call it.
        kind: "trainer" or "trl" of peers/failing.py, or "headway".
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def run(self, starts: Sequence[Start], folder: Path) -> list[Facts]:
        """Put it through the starts of a case, one after the other.

        Args:
            starts: of the case.
            folder: with data and model; its own files go below it.
        """
        own = folder / self.kind
        own.mkdir()
        found: list[Facts] = []
        for number, start in enumerate(starts):
            reserved = found[-1].address_space if found else 0
            found.append(self._run(start, folder, own, number, reserved))
        return found

    def command(self, start: Start, folder: Path, own: Path, number: int) -> list[str]:
        """What is typed."""
        data = str(folder / start.data)
        if self.kind == "headway":
            words = [data, "--output-dir", str(own / "runs"), *map(str, start.headway)]
            return [sys.executable, "-m", "headway.cli", "train", *words]
        options = {
            "data": data,
            "model": str(folder / "model"),
            "output_dir": str(own / "runs"),
            "final": str(own / "final"),
            "steps": str(own / "steps"),
            "args": start.args,
            "resume": start.resume,
            "stream": start.stream,
            "max_length": start.max_length,
        }
        path = own / f"options-{number}.json"
        path.write_text(json.dumps(options))
        return [sys.executable, str(PEERS / "failing.py"), self.kind, str(path)]

    def _run(self, start: Start, folder: Path, own: Path, number: int, reserved: int) -> Facts:
        command = self.command(start, folder, own, number)
        if start.ulimit:
            flag, value = start.ulimit.split()
            limit = reserved + 1024 * int(value[1:]) if value.startswith("+") else int(value)
            command = ["bash", "-c", f"ulimit {flag} {limit}; exec {shlex.join(command)}"]
        kept = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
        began_s = time.monotonic()
        with (own / f"output-{number}").open("w+b") as output:
            process = subprocess.Popen(
                command,
                cwd=own,
                env=environment(own / "cache") | kept | _PLAIN,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            running = Running(process, folder, self._runs(own), lambda: self._num_steps(own))
            reserved_now = _AddressSpace(process.pid)
            try:
                acting = threading.Thread(target=start.act or (lambda _: None), args=(running,))
                acting.start()
                code = _end(process, start.limit_s)
                acting.join()
            finally:
                most = reserved_now.stop()
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            seconds = time.monotonic() - began_s
        moved, finite = self._weights(folder, own)
        return Facts(
            exit_code=code,
            seconds=seconds,
            output=(own / f"output-{number}").read_text(errors="replace"),
            steps=self._num_steps(own),
            moved=moved,
            finite=finite,
            saved=self._saved(own),
            address_space=most,
            notes=running.notes,
        )

    # -- what is left on disk -----------------------------------------------------------------

    def _runs(self, own: Path) -> Path:
        return own / "runs" / "case" if self.kind == "headway" else own / "runs"

    def _num_steps(self, own: Path) -> int:
        if self.kind != "headway":
            with contextlib.suppress(OSError, ValueError):
                return int((own / "steps").read_text())
            return 0
        most = 0
        for log in (own / "runs").glob("*/events.jsonl"):
            for line in log.read_text().splitlines():
                if '"step_done"' in line:
                    with contextlib.suppress(ValueError):
                        most = max(most, json.loads(line)["global_step"])
        return most

    def _checkpoints(self, own: Path) -> list[Path]:
        """The newest first."""
        found = [p for p in (own / "runs").rglob("checkpoint-*") if p.is_dir()]
        found = [p for p in found if "quarantine" not in p.parts and not p.is_symlink()]
        return sorted(found, key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)

    def _saved(self, own: Path) -> int:
        for checkpoint in self._checkpoints(own):
            if _tensors(checkpoint) is not None and (checkpoint / "trainer_state.json").exists():
                return int(checkpoint.name.rpartition("-")[2])
        return 0

    def _weights(self, folder: Path, own: Path) -> tuple[bool | None, bool | None]:
        """Whether the final weights moved and are finite."""
        places = [own / "final", *self._checkpoints(own)]
        final = next((found for p in places if (found := _tensors(p)) is not None), None)
        if final is None:
            return None, None
        initial = load_file(folder / "model" / "model.safetensors")
        moved = any(
            not np.array_equal(final[name], initial[name], equal_nan=True)
            for name in final.keys() & initial.keys()
        )
        return moved, all(bool(np.isfinite(one).all()) for one in final.values())


SYSTEMS = (System("Trainer", "trainer"), System("TRL", "trl"), System("Headway", "headway"))


def _tensors(folder: Path) -> dict[str, Any] | None:
    try:
        return load_file(folder / "model.safetensors")
    except (OSError, SafetensorError, ValueError):
        return None


def _end(process: "subprocess.Popen[bytes]", limit_s: float) -> int | None:
    """The exit code; None if it had to be ended."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None


class _AddressSpace:
    """Follows the largest address space of a process and its children, in KiB."""

    def __init__(self, pid: int) -> None:
        self._pid, self._most, self._over = pid, 0, threading.Event()
        self._thread = threading.Thread(target=self._follow)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._most

    def _follow(self) -> None:
        while not self._over.wait(0.2):
            with contextlib.suppress(psutil.Error):
                family = [psutil.Process(self._pid)]
                family += family[0].children(recursive=True)
                for one in family:
                    with contextlib.suppress(psutil.Error):
                        self._most = max(self._most, one.memory_info().vms // 1024)
