"""Errors caused by this machine, as refusals: a missing package, a limit reached.

They can be raised by any line of any library, so they are recognized at the boundaries of a
process: the command line, a child's `main`, an attempt.
"""

from headway.base.errors import Refusal
from headway.base.host.packages import missing_package


def machine_refusal(error: BaseException) -> Refusal | None:
    """What to tell a person about an error; None if the machine did not cause it."""
    # Here, not at the top: `headway --help` needs none of it.
    from headway.base.disk import is_disk_error, write_refusal
    from headway.base.host.limits import limit_refusal, this_process

    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    if isinstance(error, OSError) and is_disk_error(error):
        return write_refusal(error)
    return limit_refusal(error, this_process())
