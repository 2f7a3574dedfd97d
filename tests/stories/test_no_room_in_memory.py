"""Shared memory that is full: a job's processes cannot tell each other anything."""

import pytest
from tests.failures.small_disk import small_disk

from headway.supervise.live.runtime_folder import runtime_place

from .conftest import Headway, Result

PAGE = 4096


def run_with_free_pages(headway: Headway, verb: str, pages: int) -> Result:
    """Plan or train with that many pages free where a job's processes meet."""
    headway.write("notes.txt", "All work and no play makes Jack a dull boy. " * 20)
    with small_disk(runtime_place(), "-t tmpfs -o size=64k none") as disk:
        headway.before = [*disk.enter[:-1], f"--chdir={headway.here}"]
        disk.leave_free(pages * PAGE)
        return headway(verb, "notes.txt", "--preset", "tiny", "--max-length", 16)


def assert_told(told: Result) -> None:
    shared = runtime_place()
    assert told.code == 5, told.out + told.err
    assert told.err.startswith(f"{shared} is full\n")
    assert f"try   du -ah {shared} | sort -h | tail" in told.err
    assert "Traceback" not in told.out + told.err


@pytest.mark.parametrize("verb", ["plan", "train"])
@pytest.mark.parametrize("pages", [0, 1, 2])
def test_f35_full_shared_memory_is_told_with_5_and_how_to_see_what_fills_it(
    headway: Headway, verb: str, pages: int
) -> None:
    assert_told(run_with_free_pages(headway, verb, pages))
    assert [path.name for path in headway.here.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("pages", [3, 4])
def test_f35_shared_memory_that_fills_up_later_is_told_the_same_way(
    headway: Headway, pages: int
) -> None:
    assert_told(run_with_free_pages(headway, "train", pages))
