"""Open descriptors as sources: standard input, /dev/fd/N and what `<(command)` becomes."""

import contextlib
import os
import re
from collections.abc import Iterable

_NAME = re.compile(r"/dev/(stdin|stdout|stderr)|/(?:dev|proc/self)/fd/(\d{1,9})")
_STANDARD = {"stdin": 0, "stdout": 1, "stderr": 2}


def descriptor_of(name: str) -> int | None:
    """The number of the descriptor that a source's name means; None if it means something else."""
    if name == "-":
        return 0
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return _STANDARD[match[1]] if match[1] else int(match[2])


def inherited(names: Iterable[str]) -> tuple[int, ...]:
    """The descriptors among some sources that a process which reads them must inherit.

    Standard input is not among them. Nor is what this process opened itself: Python's own
    descriptors are not inheritable.
    """
    numbers = {descriptor_of(name) for name in names}
    kept: list[int] = []
    for number in sorted(number for number in numbers if number is not None and number > 2):
        with contextlib.suppress(OSError):  # not open: the reader refuses it by name
            if os.get_inheritable(number):
                kept.append(number)
    return tuple(kept)


def reads_standard_input(names: Iterable[str]) -> bool:
    """Whether one of some sources is standard input."""
    return any(descriptor_of(name) == 0 for name in names)
