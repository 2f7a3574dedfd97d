from tests.diagnose.built import evidence, frame, process, runner, sleeper, texts, thread

from headway.diagnose.causes.disks import find_disk_full, find_disk_slow, find_lock_file
from headway.diagnose.diagnosis import Helps, StallCause
from headway.diagnose.evidence.facts import DiskFacts, HeldLock, Link, OpenFile

FULL = DiskFacts("/runs", 4096, 100_000_000)
ROOM = DiskFacts("/data", 50_000_000, 100_000_000)
AGAIN = sleeper(frame("save train.py:30", "time.sleep(1)"))


def test_a_full_disk_is_named_with_its_free_bytes() -> None:
    found = find_disk_full(evidence(process(7, AGAIN), disks=(ROOM, FULL)))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.DISK_FULL, Helps.PERSON)
    assert "/runs is full" in found.finding.what
    assert "4.1 kB free of 100.0 MB" in found.finding.have
    assert found.finding.remedies[0].do == "df -h /runs"


def test_a_full_disk_explains_nothing_where_it_computes_or_has_room() -> None:
    assert find_disk_full(evidence(process(7, runner()), disks=(FULL,))) is None
    assert find_disk_full(evidence(process(7, AGAIN), disks=(ROOM,))) is None
    assert find_disk_full(evidence(process(7, AGAIN), disks=(DiskFacts("/proc", 0, 0),))) is None


def test_a_thread_that_waits_for_a_disk() -> None:
    waits = thread("save train.py:30", state="D", call="fsync", descriptor=3)
    file = OpenFile(3, Link.FILE, "/mnt/nfs/model.bin")
    found = find_disk_slow(evidence(process(7, waits, open_files=(file,)), io_pressure=0.7))
    assert found is not None
    assert found.cause is StallCause.DISK_SLOW
    assert "to write to /mnt/nfs/model.bin" in found.finding.what
    assert "in fsync, state D, called from save (train.py:30)" in found.finding.have
    assert "70% of the time" in found.finding.have
    assert "df -hT /mnt/nfs" in texts(found)
    reads = thread("load train.py:30", state="D", call="pread64", descriptor=3)
    found = find_disk_slow(evidence(process(7, reads, open_files=(file,))))
    assert found is not None
    assert "to read from" in found.finding.what
    assert find_disk_slow(evidence(process(7, sleeper()))) is None


def test_a_lock_whose_owner_is_gone() -> None:
    waits = thread("open_cache data.py:9", call="flock", descriptor=3)
    lock = HeldLock("/cache/a.lock", None)
    found = find_lock_file(evidence(process(7, waits, locks=(lock,))))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.LOCK_FILE, Helps.PERSON)
    assert "/cache/a.lock, which no running process holds" in found.finding.what
    assert found.finding.remedies[0].do == "rm /cache/a.lock"


def test_a_lock_whose_owner_runs_takes_patience() -> None:
    waits = thread("open_cache data.py:9", call="flock", descriptor=3)
    found = find_lock_file(evidence(process(7, waits, locks=(HeldLock("/cache/a.lock", 42),))))
    assert found is not None
    assert found.helps is Helps.PATIENCE
    assert "process 42" in found.finding.what
    assert "kill 42" in texts(found)


def test_a_lock_file_of_a_library_is_told_by_its_code() -> None:
    for place in ("filelock/_api", "torch/utils/file_baton"):
        waits = sleeper(f"wait <site>/{place}.py:49", "build ops.py:3")
        found = find_lock_file(evidence(process(7, waits)))
        assert found is not None
        assert "asked for by build (ops.py:3)" in found.finding.have
    assert find_lock_file(evidence(process(7, sleeper("wait ops.py:3")))) is None
