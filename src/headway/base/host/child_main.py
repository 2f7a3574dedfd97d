"""Entry point of a child process: errors caused by the machine are reported as refusals."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from headway.base.errors import Exit, Refusal, exit_code
from headway.base.host.machine_errors import machine_refusal
from headway.base.process import PULSE_VARIABLE, accept_stops, report_refusal, send_answer

OWNER_VARIABLE = "HEADWAY_OWNER_PID"  # of who follows this process, if it is not its parent
_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER = 0x59616D61

R = TypeVar("R")


def run_child(main: Callable[[list[str]], int], *, listens: bool = False) -> int:
    """Run a child process.

    Args:
        main: takes the arguments, returns the exit code, reports its own refusals.
        listens: it has a `Stop`, which takes what was sent before; else a signal ends it.

    Returns:
        The exit code.
    """
    if not listens:
        accept_stops()
    try:
        return main(sys.argv[1:])
    except Exception as error:
        refusal = machine_refusal(error)
        if refusal is None:
            raise
        report_refusal(refusal)
        return exit_code(refusal)


def answer_request(
    arguments: Sequence[str], kind: type[R], answer: Callable[[R, Path | None], object]
) -> int:
    """Answer the one request of the process that started this one, or report why not.

    Args:
        arguments: of the process: a file with the request as JSON.
        kind: of the request.
        answer: gets it, and where the pulse is. Returns the answer; may raise a `Refusal`.

    Returns:
        The exit code.
    """
    end_with_parent()
    request = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=kind)
    pulse = os.environ.get(PULSE_VARIABLE)
    try:
        send_answer(answer(request, Path(pulse) if pulse else None))
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)
    return Exit.KEPT


def end_with_parent() -> None:
    """Die when the parent dies, however it dies; let its owner read its stack (Linux)."""
    parent = os.getppid()
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_PTRACER, int(os.environ.get(OWNER_VARIABLE, parent)))
    if os.getppid() != parent:  # it died before the call
        os._exit(Exit.BUG)
