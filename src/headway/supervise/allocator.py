"""Memory allocator of the trainer: choice and environment."""

import os
import sys
from enum import StrEnum
from pathlib import Path

TCMALLOC = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)
# glibc keeps freed blocks up to this many bytes: the next step asks for the same ones.
_KEPT_BYTES = 1 << 30


class Allocator(StrEnum):
    """What manages a trainer's memory, in the words of a plan."""

    SYSTEM = "the system's"
    PRELOADED = "yours (LD_PRELOAD)"
    TCMALLOC = "tcmalloc"
    GLIBC = "glibc, tuned to keep freed memory"


def find_tcmalloc() -> Path | None:
    """The tcmalloc library; None if it is not installed."""
    places = [Path(folder, name) for folder in _FOLDERS for name in TCMALLOC]
    return next((place for place in places if place.exists()), None)


def choose_allocator() -> Allocator:
    """The best allocator on this machine; a person's own LD_PRELOAD comes first."""
    if sys.platform != "linux":
        return Allocator.SYSTEM
    if os.environ.get("LD_PRELOAD"):
        return Allocator.PRELOADED
    return Allocator.TCMALLOC if find_tcmalloc() else Allocator.GLIBC


def environment() -> dict[str, str]:
    """Variables that give a process the allocator of `choose_allocator`.

    A step frees its tensors and the next one allocates the same. By default, glibc returns large
    blocks to the kernel, which clears every page before it hands it out again.
    """
    match choose_allocator():
        case Allocator.SYSTEM:
            return {}
        case Allocator.TCMALLOC:
            # It reports large blocks on standard error unless the threshold is out of reach.
            threshold = str(1 << 60)
            return {
                "LD_PRELOAD": str(find_tcmalloc()),
                "TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD": threshold,
            }
        case Allocator.GLIBC | Allocator.PRELOADED:
            kept = str(_KEPT_BYTES)
            return {"MALLOC_MMAP_THRESHOLD_": kept, "MALLOC_TRIM_THRESHOLD_": kept}
