"""Watched run: which program trains, and what is known about its plan.

`watched.json` stands where a run of Headway has `plan.json`: `runs`, `status` and `logs` show the
run by it. What the program keeps to itself is left out, never guessed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from headway.base.errors import Finding
from headway.base.files import write_whole
from headway.base.version import __version__
from headway.base.versioned_json import read

FILE = "watched.json"
SCHEMA = "headway.watched/1"


@dataclass(frozen=True)
class WatchedSteps:
    """Optimizer steps of the job, as far as they are known before it starts."""

    first: int = 0  # global step before the job
    num: int = 0  # 0: unknown


@dataclass(frozen=True)
class WatchedTime:
    """How long the job is expected to take."""

    seconds: float | None = None  # None: unknown


@dataclass(frozen=True)
class WatchedRun:
    """A run of another program.

    Attributes:
        name: of the run, and of its folder.
        by: what of Headway watches it.
        program: what trains, as a person would say it: "SFTTrainer of transformers 5.23.0".
        directory: the working folder of the program.
        steps: what is planned.
        time: how long it should take.
        checked: what was looked at before the first step.
        not_checked: what could not be, each with its reason.
        findings: what was found before the first step.
        facts: numbers of the plan, by name, for people.
    """

    name: str
    by: Literal["callback", "guard"]
    program: str
    directory: str = ""
    steps: WatchedSteps = WatchedSteps()
    time: WatchedTime = WatchedTime()
    checked: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    facts: dict[str, str] = field(default_factory=dict[str, str])
    schema: str = SCHEMA
    version: str = __version__

    def save(self, folder: Path) -> None:
        """Write watched.json into the run's folder.

        Raises:
            MachineError: it cannot be written.
        """
        write_whole(folder / FILE, msgspec.json.format(msgspec.json.encode(self), indent=2))


def is_watched(folder: Path) -> bool:
    """Whether a folder is that of a run that Headway only watched."""
    return (folder / FILE).is_file()


def load_watched(folder: Path) -> WatchedRun:
    """Read watched.json.

    Raises:
        OSError: there is none.
        msgspec.MsgspecError: it is not valid.
        UsageError: a newer Headway wrote it.
    """
    return read(folder / FILE, WatchedRun, SCHEMA)
