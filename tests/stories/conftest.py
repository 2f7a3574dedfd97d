"""The real command line in fresh processes: what a person types, sees and gets."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.mutants import site

LIMIT_S = 600  # that nothing takes, however busy the machine is


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "stories" in item.path.parts:
            item.add_marker(pytest.mark.story)


@dataclass
class Result:
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Headway:
    """Types `headway ...` in a folder of its own."""

    def __init__(self, here: Path, cache: Path) -> None:
        self.here = here
        self.environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("HEADWAY", "PYTEST"))
        }
        self.environment |= {
            "XDG_CACHE_HOME": str(cache),
            "NO_COLOR": "1",
            "COLUMNS": "80",
            "PYTHONWARNINGS": "default",
        }
        self.environment.pop("PYTHONPATH", None)
        self.started: list[subprocess.Popen[str]] = []
        self.before: list[str] = []  # words before the command: where, or with which rights

    def command(self, *words: object) -> list[str]:
        return [*self.before, sys.executable, "-m", "headway.cli", *map(str, words)]

    def __call__(self, *words: object, stdin: str = "", **environment: str) -> Result:
        """Type it and wait for the end."""
        began_s = time.monotonic()
        done = subprocess.run(
            self.command(*words),
            cwd=self.here,
            env=self.environment | environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        return Result(done.returncode, done.stdout, done.stderr, time.monotonic() - began_s)

    def start(self, *words: object, **environment: str) -> "subprocess.Popen[str]":
        """Type it and do not wait."""
        process = subprocess.Popen(
            self.command(*words),
            cwd=self.here,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def receipt(self, run: str) -> dict[str, Any]:
        return json.loads((self.here / "runs" / run / "receipt.json").read_text())

    def plan(self, run: str) -> dict[str, Any]:
        return json.loads((self.here / "runs" / run / "plan.json").read_text())

    def settled(self, run: str) -> dict[str, Any]:
        """What a run found out by trying."""
        return json.loads((self.here / "runs" / run / "settled.json").read_text())

    def events(self, run: str) -> list[dict[str, Any]]:
        path = self.here / "runs" / run / "events.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]  # the last is begun

    def mutate(self, name: str, code: str) -> dict[str, str]:
        """An environment in which the trainer's process runs `code` before anything of its own.

        A mutant of our own code, from outside: the program has no hooks for tests.
        """
        folder = self.here / f"mutant-{name}"
        folder.mkdir()
        code = site(code, "'headway.training.worker' in sys.orig_argv")
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": str(folder)}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def headway(tmp_path: Path, cache: Path) -> Iterator[Headway]:
    hands = Headway(tmp_path, cache)
    yield hands
    for process in hands.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def until(what: Callable[[], Any], limit_s: float = LIMIT_S) -> Any:
    """Wait until something is so; its value."""
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        value = what()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def worker_of(supervisor: int, rank: int) -> int:
    """The process of a worker that is there, started or not."""
    for child in psutil.Process(supervisor).children():
        words = child.cmdline()
        if "headway.training.worker" in words:
            own = int(words[words.index("--rank") + 1]) if "--rank" in words else 0
            if own == rank:
                return child.pid
    raise AssertionError(f"no worker {rank}")


def running(pid: int | str) -> bool:
    """Whether a process can still do anything; dead and not yet collected (a zombie) it cannot."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
