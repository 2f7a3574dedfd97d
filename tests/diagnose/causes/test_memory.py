from tests.diagnose.built import evidence, process, thread

from headway.diagnose.causes.memory import find_memory_pressure
from headway.diagnose.diagnosis import StallCause

GB = 10**9
MEMORY = {"memory_bytes": 16 * GB, "memory_free_bytes": GB // 4}


def test_swapping_is_named_with_who_has_the_memory() -> None:
    job = process(7, thread(state="D"), major_faults_per_s=900.0, memory_bytes=15 * GB)
    moved = {"swap_in_pages_per_s": 4000.0, "swap_out_pages_per_s": 3000.0, "memory_pressure": 0.6}
    found = find_memory_pressure(evidence(process(8), job, **MEMORY, **moved))
    assert found is not None
    assert (found.cause, found.pid) == (StallCause.MEMORY_PRESSURE, 7)
    for words in ("60% of the time", "7,000 pages/s", "250.0 MB free of 16.0 GB", "15.0 GB"):
        assert words in found.finding.have


def test_pressure_without_a_swap_area() -> None:
    job = process(7, thread(state="D"), major_faults_per_s=900.0, memory_bytes=15 * GB)
    assert find_memory_pressure(evidence(job, **MEMORY, memory_pressure=0.6)) is not None


def test_a_machine_that_is_merely_full_is_not_accused() -> None:
    job = process(7, thread(), memory_bytes=15 * GB)
    assert find_memory_pressure(evidence(job, **MEMORY)) is None
    faults = process(7, thread(), major_faults_per_s=900.0)
    assert find_memory_pressure(evidence(faults, memory_bytes=GB, memory_free_bytes=GB)) is None
    assert find_memory_pressure(evidence()) is None
