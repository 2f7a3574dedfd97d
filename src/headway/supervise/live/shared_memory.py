"""Full shared memory: detection and refusal."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.units import size
from headway.supervise.live.runtime_folder import runtime_place

_NEEDED_BYTES = 1_000_000  # a request, a plan, pulses


def is_shared_memory_full() -> bool:
    """Whether the disk of the live folders has less room than one job needs."""
    return shutil.disk_usage(runtime_place()).free < _NEEDED_BYTES


def shared_memory_full() -> MachineError:
    """The refusal for it."""
    place = runtime_place()
    return MachineError(
        f"{place} is full",
        cause=Cause.SHARED_MEMORY_FULL,
        have=f"{size(shutil.disk_usage(place).free)} free",
        need=f"{size(_NEEDED_BYTES)}: a job's processes exchange their state there",
        remedies=(Remedy(f"du -ah {place} | sort -h | tail", "shows what takes the space"),),
    )


@contextmanager
def shared_memory_errors() -> Generator[None]:
    """Write to a live folder in here.

    Raises:
        MachineError: its disk is full.
    """
    try:
        yield
    except (OSError, MachineError) as error:
        if not is_shared_memory_full():
            raise
        raise shared_memory_full() from error
