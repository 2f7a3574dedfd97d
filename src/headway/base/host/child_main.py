"""Entry point of a child process: what its machine makes it fail with is reported as a refusal."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from headway.base.errors import Exit, exit_code
from headway.base.host.machine_errors import machine_refusal
from headway.base.process import accept_stops, report_refusal

OWNER_VARIABLE = "HEADWAY_OWNER_PID"  # of who follows this process, if it is not its parent
_PR_SET_PDEATHSIG = 1
_PR_SET_PTRACER = 0x59616D61


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
