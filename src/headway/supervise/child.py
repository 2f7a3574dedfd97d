"""One process of ours: started, told, ended, its last words kept."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import msgspec

from headway.base.errors import (
    Exit,
    MachineError,
    OurBug,
    Refusal,
    RefusalMessage,
    Remedy,
    refusal_from,
)
from headway.base.machine import this_machine
from headway.base.process import PULSE_VARIABLE
from headway.supervise import allocator
from headway.supervise.shared_memory import is_full, no_room


class Child:
    """One process of ours, in a session of its own, its complaints kept in a file."""

    def __init__(
        self,
        module: str,
        arguments: Sequence[str],
        live: Path,
        name: str,
        stdin: int | IO[bytes] | None,
    ) -> None:
        self.name = name
        self.errors = live / f"{name}.err"
        environment = child_environment(live / f"{name}.pulse")
        if module.startswith("headway.training."):
            environment |= allocator.environment()
        if module == "headway.training.worker":
            # What it needs is on this machine by now: nothing is fetched behind one's back.
            environment["HF_HUB_OFFLINE"] = "1"
        with self.errors.open("wb") as errors:
            # A session of its own: Ctrl+C reaches the supervisor alone, who passes it on in order.
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=stdin,
                stdout=errors,
                stderr=errors,
                env=environment,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it is still there."""
        return self.process.poll() is None

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.running:
            self.process.send_signal(number)

    def end(self, wait_s: float = 2.0) -> None:
        """Make sure it is gone."""
        self.tell(signal.SIGKILL)
        self.process.wait(wait_s)

    def last_words(self) -> list[str]:
        """What it wrote to its standard error."""
        return self.errors.read_text(errors="replace").strip().splitlines()


def child_environment(pulse: Path) -> dict[str, str]:
    """What a process that computes is started with: its threads, its pulse."""
    cores = str(this_machine().cores)
    return {
        "OMP_NUM_THREADS": cores,
        "TOKENIZERS_PARALLELISM": "true",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        PULSE_VARIABLE: str(pulse),
    }


def died(child: Child, doing: str) -> Refusal:
    """A process that ended without saying why."""
    code = child.process.returncode
    words = child.last_words()
    if words and words[-1].startswith("{"):  # it could tell only us
        with contextlib.suppress(msgspec.MsgspecError):
            return refusal_from(msgspec.json.decode(words[-1], type=RefusalMessage))
    # Its last words had no room either; or its pulse had none, which is told by a SIGBUS.
    if code in (Exit.MACHINE, -signal.SIGBUS) and is_full():
        return no_room()
    if code < 0:
        name = signal.Signals(-code).name
        return MachineError(
            f"{doing} was ended from outside by {name}",
            have=f"{name}, which often means that memory ran out" if name == "SIGKILL" else name,
            need="a process that is left to finish",
            remedies=(
                Remedy("the same command again", "goes on from the last checkpoint"),
                Remedy("headway doctor", "how much memory there is"),
            ),
        )
    return OurBug(
        f"{doing} failed: {words[-1] if words else f'exit {code}'}",
        have=f"exit code {code}" + (f", after {len(words)} lines of explanation" if words else ""),
        need="a bug report: this is ours",
        remedies=(Remedy("the same command with --verbose", "shows the traceback"),),
    )
