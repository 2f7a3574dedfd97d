"""A small run to back up and restore, and processes that are killed meanwhile."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headway.base.files import replace_link, write_folder
from headway.base.pulse import Pulse
from headway.runs.archive.backup import Backup, make_backup
from headway.runs.archive.restore import Restored, restore
from headway.runs.folder import RunFolder

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WEIGHTS = 50_000


def checkpoint(run: Path, step: int) -> None:
    def fill(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(bytes([step]) * WEIGHTS)
        (folder / "headway.json").write_text(f'{{"global_step": {step}}}')

    write_folder(run / f"checkpoint-{step}", fill)
    replace_link(run / "model", run / f"checkpoint-{step}")


def make_run(folder: Path) -> RunFolder:
    folder.mkdir(parents=True)
    (folder / "plan.json").write_text("{}")
    (folder / "events.jsonl").write_text('{"event": "step_done"}\n')
    (folder / "receipt.json").write_text('{"outcome": "finished"}')
    (folder / "pulse.json").write_text("{}")
    checkpoint(folder, 5)
    checkpoint(folder, 10)
    return RunFolder(folder)


def content(folder: Path) -> dict[str, bytes]:
    """What is in a run, but for what is of the moment."""
    kept = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("run.lock", "pulse.json")
    }
    return kept | {"model": (folder / "model").readlink().name.encode()}


def back_up(run: RunFolder, **more: Any) -> Backup:
    return make_backup(run, NOW, Pulse(), **more)


def go_back(run: RunFolder, name: str | None = None, **more: Any) -> Restored:
    return restore(run.path, name, NOW, Pulse(), **more)


def train_on(run: RunFolder) -> None:
    """What another hour of training does to a run."""
    (run.path / "receipt.json").unlink()
    with run.events.open("a") as file:
        file.write('{"event": "step_done"}\n')
    checkpoint(run.path, 15)
    shutil.rmtree(run.path / "checkpoint-5")


def killed_at(number: int, what: Callable[[], object]) -> bool:
    """Do it in a child that is killed at its so-manieth touch of the disk; whether it was."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    with contextlib.suppress(BaseException):
        left = [number]

        def touched(event: str, _: object) -> None:
            names = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.symlink")
            if event in (*names, "os.rmdir", "ctypes.dlsym", "os.chmod"):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(touched)
        what()
    os._exit(0)


def in_own_process(module: str, campaign: str, here: Path, mutant: str = "") -> set[str]:
    """What a campaign saw in a process of its own: other tests leave threads, a fork loses them."""
    code = (
        f"import sys; from pathlib import Path; from tests.runs.archive import {module} as tests\n"
        f"{mutant}\nprint(*tests.{campaign}(Path(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(here)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
