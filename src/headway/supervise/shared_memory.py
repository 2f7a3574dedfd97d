"""Room in shared memory for what a job's processes tell each other."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager

from headway.base.errors import MachineError, Remedy
from headway.base.pulse import live_folder
from headway.base.units import size

_ENOUGH = 1_000_000  # bytes: a request, a plan, pulses, what a process says of its end


def is_full() -> bool:
    """Whether the place of the live folders has less room than a job's processes need."""
    return shutil.disk_usage(live_folder().parent).free < _ENOUGH


def no_room() -> MachineError:
    """The place of the live folders is full."""
    place = live_folder().parent
    return MachineError(
        f"no room in {place}, where a job's processes leave word for each other",
        have=f"{size(shutil.disk_usage(place).free)} free",
        need=size(_ENOUGH),
        remedies=(Remedy(f"du -ah {place} | sort -h | tail", "what takes the room"),),
    )


@contextmanager
def room_to_tell() -> Generator[None]:
    """Write to a live folder in here.

    Raises:
        MachineError: its place is full.
    """
    try:
        yield
    except (OSError, MachineError) as error:
        if not is_full():
            raise
        raise no_room() from error
