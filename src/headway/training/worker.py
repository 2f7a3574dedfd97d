"""Training worker: one rank's process from start to exit.

    python -m headway.training.worker RUN              train the plan in RUN's folder, together with
                                                       the others if a launcher started several
    python -m headway.training.worker -                read a `Go` from standard input, then train
    python -m headway.training.worker - --adapters     import PEFT, too
    python -m headway.training.worker - --early MODEL  load this folder while there is no `Go` yet
    python -m headway.training.worker - --rank N       compute for the root, which is rank 0
    python -m headway.training.worker --serve FD       a fork server of such processes

With `-`, torch is imported while the supervisor is still planning.

When it has written its last event, the process ends within seconds: it waits for no thread and no
exit handler that hangs.
"""

import contextlib
import importlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from headway.base.errors import (
    Exit,
    Refusal,
    exit_code,
    message_of,
)
from headway.base.events import Ended, EventLog
from headway.base.foreign.imports import quick_imports
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.host.fork_server import is_server, leave, serve
from headway.base.host.launcher import launched_place
from headway.base.process import (
    PULSE_VARIABLE,
    Left,
    Stop,
    report_refusal,
)
from headway.base.pulse import Phase, Pulse
from headway.runs.folder import RunFolder
from headway.runs.receipt import how_to_resume
from headway.runs.workers import Go

if TYPE_CHECKING:
    from headway.training.weights.early_read import EarlyRead

_EXIT_S = 2.0  # for threads and exit handlers, after everything is done


def main(arguments: list[str]) -> int:
    """Run the process; returns its exit code."""
    end_with_parent()
    if arguments[0] != "-" and launched_place(os.environ):
        os.execv(  # noqa: S606 - no shell is wanted
            sys.executable, [sys.executable, "-P", "-m", "headway", "worker", arguments[0]]
        )
    path = os.environ.get(PULSE_VARIABLE)
    rank = int(arguments[arguments.index("--rank") + 1]) if "--rank" in arguments else 0
    pulse = Pulse(Path(path) if path else None, rank=rank)
    began_s = time.monotonic()
    with Stop().listening() as stop:
        spent_s: dict[Phase, float] = {}
        with contextlib.suppress(Left), stop.may_leave():
            spent_s = _import_libraries(pulse, adapters="--adapters" in arguments)
        read = _read_early(arguments, spent_s)
        loaded_s = time.monotonic()
        go = _wait_for_go(pulse) if arguments[0] == "-" else Go(arguments[0], 1, began_s)
        if go is None:
            return Exit.KEPT  # nothing to train: refused, or already done
        if go.rank:
            return _join(go, pulse, stop)
        log = EventLog(Path(go.run) / "events.jsonl", go.attempt, rank=0, began_s=go.began_s)
        spent_s |= {
            Phase.STARTING: began_s - go.began_s,
            Phase.PLANNING: time.monotonic() - loaded_s,  # not what happened before
        }
        try:
            if stop.by:
                raise Left
            from headway.training.attempt import prepare
            from headway.training.distributed.place import TeamPlace
            from headway.training.phases import Phases
            from headway.training.weights.holding import WHOLE, whole

            phases = Phases(pulse, log, spent_s)
            place = TeamPlace.of(go, pulse)
            holding = whole(read) if read else WHOLE
            return prepare(Path(go.run), log, phases, stop, place, go.spent_s, holding).run()
        except Left:
            return stopped_early(log, stop, RunFolder(Path(go.run)))
        except Refusal as refusal:
            _report(refusal, log)
            return exit_code(refusal)


def _join(go: Go, pulse: Pulse, stop: Stop) -> int:
    """Compute for the root until it says that there are no more steps."""
    from headway.training.distributed.place import TeamPlace
    from headway.training.member import run_member
    from headway.training.phases import Phases

    try:
        place = TeamPlace.of(go, pulse)
        return run_member(Path(go.run), place, Phases(pulse, None), stop)
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)


def stopped_early(log: EventLog, stop: Stop, folder: RunFolder) -> Exit:
    """A stop was requested before the first step; earlier attempts' saves are untouched."""
    then = how_to_resume(folder.last_saved_step())
    line = f"stopped by {stop.by} before the first step: nothing to save · {then}"
    log.write(Ended("interrupted", int(stop.code), line))
    return stop.code


def _import_libraries(pulse: Pulse, *, adapters: bool) -> dict[Phase, float]:
    """Import what training needs; returns the seconds it took."""
    began_s = time.monotonic()
    with quick_imports():
        with pulse.importing(Phase.IMPORTING_TORCH):
            importlib.import_module("headway.training.attempt")  # while nobody waits for it
            from headway.model.load import warm_up
            from headway.training.trials.speed import remember_process

        torch_s = time.monotonic() - began_s
        with pulse.importing(Phase.IMPORTING_TRANSFORMERS):
            warm_up(adapters=adapters)
    remember_process()  # before the plan that is being made needs it
    pulse.enter(Phase.STARTING)
    transformers_s = time.monotonic() - began_s - torch_s
    return {Phase.IMPORTING_TORCH: torch_s, Phase.IMPORTING_TRANSFORMERS: transformers_s}


def _read_early(arguments: list[str], spent_s: dict[Phase, float]) -> "EarlyRead | None":
    """Load the folder that is named, if one is; its time is added to that of the phases."""
    if "--early" not in arguments:
        return None
    from headway.training.weights.early_read import EarlyRead

    began_s = time.monotonic()
    read = EarlyRead(Path(arguments[arguments.index("--early") + 1]))
    spent_s[Phase.LOADING_MODEL] = time.monotonic() - began_s
    return read


def _wait_for_go(pulse: Pulse) -> Go | None:
    """The supervisor's `Go`, None if there is nothing to train."""
    with pulse.waiting("the plan"):
        line = sys.stdin.buffer.readline()
    return msgspec.json.decode(line, type=Go) if line else None


def _report(refusal: Refusal, log: EventLog) -> None:
    finding = message_of(refusal).findings[0]
    try:
        log.write(Ended("failed", int(exit_code(refusal)), finding.what, finding))
    except Refusal:  # the log is on the disk that is full
        report_refusal(refusal)


def exit_within(code: int, limit_s: float = _EXIT_S) -> NoReturn:
    """End the process, whatever a thread or an exit handler waits for.

    Args:
        code: what it ends with.
        limit_s: how long these are waited for, seconds.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        # Connections to other workers end with the process. As the interpreter takes the library
        # apart, its threads would end it by SIGABRT.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    end = threading.Timer(limit_s, os._exit, (code,))
    end.daemon = True
    end.start()
    leave(code)


if __name__ == "__main__":
    if is_server():
        module = serve(lambda: _import_libraries(Pulse(None), adapters=False))
        if module != "headway.training.worker":
            leave(run_child(importlib.import_module(module).main))
    exit_within(run_child(main, listens=True))
