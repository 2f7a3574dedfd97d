"""Entry point of a child process: what its machine makes it fail with is reported as a refusal."""

import sys
from collections.abc import Callable

from headway.base.errors import exit_code
from headway.base.host.machine_errors import machine_refusal
from headway.base.process import accept_stops, report_refusal


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
