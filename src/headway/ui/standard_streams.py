"""Standard streams of the program: closed ones, and those whose encoding lacks our symbols."""

import codecs
import io
import os
import shlex
import sys
from collections.abc import Sequence
from typing import TextIO, cast

from headway.base.errors import Cause, Remedy, UsageError
from headway.ui.output import substitute

_ERRORS = "headway.substitute"


def prepare_streams(argv: Sequence[str]) -> None:
    """Make the standard streams fit to write to, whatever the program was started with.

    A closed stream's number would be given to the next file that is opened, and what is meant for
    the screen would end up there: so it is opened to nowhere. A character that an encoding lacks,
    as in the POSIX locale, is substituted.

    Args:
        argv: what was typed after the program's name.

    Raises:
        UsageError: standard output is closed.
    """
    closed = [number for number in (0, 1, 2) if _take_number(number)]
    sys.stdout, sys.stderr = standard_streams()
    codecs.register_error(_ERRORS, _substituted)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not what a test or a notebook puts there
            stream.reconfigure(errors=_ERRORS)
    if 1 in closed:
        raise UsageError(
            "standard output is closed",
            cause=Cause.OUTPUT_CLOSED,
            have="no standard output, as after >&-",
            need="a terminal, a file or a pipe",
            remedies=(Remedy(f"headway {shlex.join(argv)} > /dev/null", "shows nothing"),),
        )


def standard_streams() -> tuple[TextIO, TextIO]:
    """Standard output and standard error; one that is closed leads to nowhere."""
    out, err = cast("TextIO | None", sys.stdout), cast("TextIO | None", sys.stderr)
    return out or _nowhere(), err or _nowhere()


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for as long as we run


def _take_number(number: int) -> bool:
    """Open a descriptor to nowhere if it is closed; returns whether it was."""
    try:
        os.fstat(number)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
        return True
    return False


def _substituted(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError), "of a stream that is written"
    return substitute(error.object[error.start : error.end]), error.end
