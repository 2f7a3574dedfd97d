"""Source line of a frame: the code that a thread is in, as it stands in its file."""

import itertools
from pathlib import Path

from headway.base.addresses import hide_credentials
from headway.base.files import regular_file

_LONGEST = 120  # characters of a line that are worth showing
_MOST_BYTES = 1 << 22  # of a file that is read for one line


def source_line(file: str, line: int) -> str:
    """The text of a line, without its indentation; "" where it cannot be read.

    Never blocks: nothing but a regular file is opened. Credentials are left out.
    """
    if line < 1 or not file.endswith(".py"):
        return ""
    try:
        path = regular_file(Path(file))
        if path.stat().st_size > _MOST_BYTES:
            return ""
        with path.open(encoding="utf-8", errors="replace") as lines:
            text = next(itertools.islice(lines, line - 1, line), "")
    except (OSError, ValueError):
        return ""
    return hide_credentials(text.strip())[:_LONGEST]
