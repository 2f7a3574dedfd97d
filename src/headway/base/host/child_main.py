"""Entry point of a child process: what its machine makes it fail with is reported as a refusal."""

import sys
from collections.abc import Callable

from headway.base.errors import exit_code
from headway.base.host.machine_errors import machine_refusal
from headway.base.process import report_refusal


def run_child(main: Callable[[list[str]], int]) -> int:
    """Run a child process.

    Args:
        main: takes the arguments, returns the exit code, reports its own refusals.

    Returns:
        The exit code.
    """
    try:
        return main(sys.argv[1:])
    except Exception as error:
        refusal = machine_refusal(error)
        if refusal is None:
            raise
        report_refusal(refusal)
        return exit_code(refusal)
