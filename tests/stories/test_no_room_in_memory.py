"""Shared memory that is full: a job's processes cannot tell each other anything."""

import pytest
from tests.failures.small_disk import small_disk

from headway.supervise.runtime_folder import runtime_place

from .conftest import Headway

PAGE = 4096


@pytest.mark.parametrize("verb", ["plan", "train"])
@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4])
def test_f35_full_shared_memory_is_told_with_5_and_how_to_see_what_fills_it(
    headway: Headway, verb: str, pages: int
) -> None:
    headway.write("notes.txt", "All work and no play makes Jack a dull boy. " * 20)
    shared = runtime_place()
    with small_disk(shared, "-t tmpfs -o size=64k none") as disk:
        headway.before = [*disk.enter[:-1], f"--chdir={headway.here}"]
        disk.leave_free(pages * PAGE)
        told = headway(verb, "notes.txt", "--preset", "tiny", "--max-length", 16)
    assert told.code == 5, told.out + told.err
    assert told.err.startswith(f"{shared} is full\n")
    assert f"try   du -ah {shared} | sort -h | tail" in told.err
    assert "Traceback" not in told.out + told.err
    assert [path.name for path in headway.here.iterdir()] == ["notes.txt"]
