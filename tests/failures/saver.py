"""A run that saves as the trainer does, without torch, for the disk to be attacked under it.

    python saver.py story DISK [MUTANT]           a whole run on an empty disk, told on stdout
    python saver.py serve JOBS ANSWERS [MUTANT]   the same save in many folders, each in a child
    python saver.py go_on RUN                     save without end, told on stdout

A mutant is a JSON list [module, old, new]: the module's source is changed before it is used.
"""

import contextlib
import ctypes
import functools
import importlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZE = 12_288  # of the weights: what a disk writes in many pieces
RUN = Path("runs", "notes")  # below the disk
STEPS = (1, 2, 3)
PR_SET_PTRACER = 0x59616D61


@functools.cache
def weights(step: int) -> bytes:
    """Bytes that say whose they are, so that no part of them is another's."""
    return b"".join(f"{step} of the weights, {n:8}\n".encode() for n in range(SIZE // 20))[:SIZE]


def plan(step: int) -> str:
    """A text as long."""
    return f"the plan before step {step}\n" * 400


def save(path: Path, step: int, said: Callable[[str], None] = lambda _: None) -> None:
    """One save of a run that keeps a single checkpoint: write, publish, delete the older."""
    from headway.base.files import write_folder
    from headway.runs.folder import RunFolder
    from headway.runs.plan import SavesPlan

    def fill(folder: Path) -> None:
        with (folder / "model.safetensors").open("wb", buffering=0) as file:
            file.write(weights(step)[: SIZE // 2])
            file.write(weights(step)[SIZE // 2 :])
        (folder / "adapters").mkdir()
        (folder / "adapters" / "config.json").write_text(f'{{"step": {step}}}\n')

    final = path / f"checkpoint-{step}"
    write_folder(final, fill)
    said(f"written {step}")
    saves = SavesPlan(every_steps=1, every_minutes=60, keep=1, num=len(STEPS), bytes_each=SIZE)
    RunFolder(path).publish_checkpoint(final, saves, first=0)
    said(f"saved {step}")


def story(disk: Path) -> None:
    """A run from its first folder to its last save; each promise is told once it is given."""
    from headway.base.files import make_folder, write_whole

    path = disk / RUN
    make_folder(path)
    for step in STEPS:
        write_whole(path / "plan.json", plan(step))
        _say(f"planned {step}")
        save(path, step, _say)


def go_on(path: Path) -> None:
    """Save one step after another until the process is ended."""
    for step in itertools.count(1):
        save(path, step, _say)


def _say(promise: str) -> None:
    os.write(1, promise.encode() + b"\n")


def mutate(name: str, old: str, new: str) -> None:
    """Change a module's source as if it had been written so."""
    module = importlib.import_module(name)
    path = str(module.__file__)
    exec(compile(Path(path).read_text().replace(old, new), path, "exec"), module.__dict__)


CLOSED = 9999  # no descriptor
NOWHERE = Path("/nowhere/x")
# How to make a system call that does nothing, for each that is attacked.
NOTHING: dict[str, Callable[[], Any]] = {
    "openat": lambda: os.open(NOWHERE, os.O_RDONLY),
    "write": lambda: os.write(1, b""),
    "read": lambda: os.read(CLOSED, 1),
    "close": lambda: os.close(CLOSED),
    "fsync": lambda: os.fsync(CLOSED),
    "rename": lambda: NOWHERE.rename(NOWHERE),
    "mkdir": lambda: NOWHERE.mkdir(),
    "rmdir": lambda: NOWHERE.rmdir(),
    "symlink": lambda: NOWHERE.symlink_to("x"),
    "unlink": lambda: NOWHERE.unlink(),
    "unlinkat": lambda: os.unlink("x", dir_fd=CLOSED),
    "chmod": lambda: NOWHERE.chmod(0o644),
    "fchmod": lambda: os.fchmod(CLOSED, 0o644),
    "fadvise64": lambda: os.posix_fadvise(CLOSED, 0, 0, os.POSIX_FADV_DONTNEED),
}


def attempt(folder: str, call: str, calls_before: int) -> int:
    """Save step 2 in a new child, after `calls_before` calls that do nothing; its exit status."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    from headway.base.errors import MachineError

    for _ in range(calls_before):
        with contextlib.suppress(OSError):
            NOTHING[call]()
    try:
        save(Path(folder), 2)
    except MachineError as refused:
        os._exit(refused.code)
    except Exception:
        os._exit(1)
    os._exit(0)


def serve(jobs: Path, answers: Path) -> None:
    """Every job of a list, each in a child that strace looks into from its first call on."""
    work = json.loads(jobs.read_text())
    warm = jobs.with_name("warm")
    warm.mkdir()
    save(warm, 1)  # whatever is imported late is imported before the first fork
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))  # a child may look into its parent
    trace = Path(work["strace"][work["strace"].index("-o") + 1])
    trace.touch()
    tracer = subprocess.Popen([*work["strace"], "-p", str(os.getpid())])
    # Attached is not yet looking: a fork between the two leaves strace taking every return from a
    # call for its start. The first call it wrote down is the sign.
    while not trace.stat().st_size:
        assert tracer.poll() is None, "strace cannot look into this process"
        with contextlib.suppress(OSError):
            NOTHING["fadvise64"]()
        time.sleep(0.005)
    ended = [attempt(*job) for job in work["attempts"]]
    tracer.send_signal(signal.SIGINT)  # let go of this process
    tracer.wait()
    answers.write_text(json.dumps(ended))


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if words[-1].startswith("["):
        mutate(*json.loads(words.pop()))
    {"story": story, "serve": serve, "go_on": go_on}[verb](*map(Path, words))
