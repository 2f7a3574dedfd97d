"""Peak memory of this process."""

import resource
import sys
from pathlib import Path


def peak_process_bytes() -> int:
    """Memory that this process has taken at most so far, without what it shares with others."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        kilobytes = dict(
            line.split(":", 1) for line in lines if line.startswith(("VmHWM", "RssSh"))
        )
        peak, shared = (int(kilobytes[name].split()[0]) for name in ("VmHWM", "RssShmem"))
        return (peak - shared) * 1024
    except (OSError, KeyError):
        pass
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale
