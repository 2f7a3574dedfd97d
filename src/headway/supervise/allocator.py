"""The memory allocator that a trainer is started with: the best one that is here."""

import os
import sys
from pathlib import Path

TCMALLOC = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")
_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)
# Blocks up to a gigabyte stay with the process when they are freed: the next step wants the same.
_KEPT = 1 << 30


def tcmalloc() -> Path | None:
    """Where tcmalloc lies, whose blocks go from step to step without a page being touched anew."""
    places = [Path(folder, name) for folder in _FOLDERS for name in TCMALLOC]
    return next((place for place in places if place.exists()), None)


def name() -> str:
    """What `environment` chooses, in a word."""
    if sys.platform != "linux":
        return "the system's"
    if os.environ.get("LD_PRELOAD"):
        return "yours (LD_PRELOAD)"
    return "tcmalloc" if tcmalloc() else "glibc's, keeping what is freed"


def environment() -> dict[str, str]:
    """Variables to start a process with that computes; what a person set stays.

    Tensors of a step are freed at its end and wanted again in the next one. As it comes, glibc
    gives large blocks back to the kernel, which clears every page before it hands it out again.
    """
    if sys.platform != "linux":
        return {}
    library = tcmalloc()
    if library and not os.environ.get("LD_PRELOAD"):
        # Report large blocks to nobody: it writes to standard error.
        return {"LD_PRELOAD": str(library), "TCMALLOC_LARGE_ALLOC_REPORT_THRESHOLD": str(1 << 60)}
    return {"MALLOC_MMAP_THRESHOLD_": str(_KEPT), "MALLOC_TRIM_THRESHOLD_": str(_KEPT)}
