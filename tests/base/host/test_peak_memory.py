"""Peak memory: in bytes, of this process alone."""

import mmap

import psutil

from headway.base.host.peak_memory import peak_process_bytes

_BYTES = 64 << 20


def test_memory_is_in_bytes() -> None:
    memory = psutil.Process().memory_info()
    own = memory.rss - memory.shared  # pages of libraries count as shared here
    assert own <= peak_process_bytes() < 2**40


def test_memory_that_was_given_back_counts_and_memory_that_is_shared_does_not() -> None:
    before = peak_process_bytes()
    bytearray(_BYTES)
    taken = peak_process_bytes()
    with mmap.mmap(-1, _BYTES) as shared:  # may be mapped by others, too
        shared.write(b"1" * _BYTES)
        assert peak_process_bytes() < taken + _BYTES // 2
    assert taken > before
