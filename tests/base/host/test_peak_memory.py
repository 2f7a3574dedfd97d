"""Peak memory: in bytes, of this process alone."""

import subprocess
import sys

import psutil

from headway.base.host.peak_memory import peak_process_bytes

_BYTES = 64 << 20
# In a process of its own: one that has had more before, as a test process may have, had its peak.
TAKES = f"""
import mmap
from headway.base.host.peak_memory import peak_process_bytes
print(peak_process_bytes())
bytearray({_BYTES})
print(peak_process_bytes())
with mmap.mmap(-1, {_BYTES}) as shared:  # may be mapped by others, too
    shared.write(b"1" * {_BYTES})
    print(peak_process_bytes())
"""


def test_memory_is_in_bytes() -> None:
    memory = psutil.Process().memory_info()
    own = memory.rss - memory.shared  # pages of libraries count as shared here
    assert own <= peak_process_bytes() < 2**40


def test_memory_that_was_given_back_counts_and_memory_that_is_shared_does_not() -> None:
    done = subprocess.run([sys.executable, "-c", TAKES], capture_output=True, text=True, check=True)
    before, taken, then = map(int, done.stdout.split())
    assert before + _BYTES // 2 < taken
    assert then < taken + _BYTES // 2
