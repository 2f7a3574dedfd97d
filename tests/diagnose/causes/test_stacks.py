import pytest
from tests.diagnose.built import frame, thread

from headway.diagnose.causes.stacks import (
    find_frame,
    innermost,
    is_in,
    is_library,
    is_native,
    locks_named_in,
    name,
    native_top,
    own_frame,
    python_frames,
    short,
    symbols,
    where,
    where_is,
)

GET = frame("Queue.get <std>/queue.py:171", "self.not_empty.wait()")
STEP = frame("Trainer.step /home/me/train.py:12", "batch = q.get()")


def test_a_module_or_a_package_is_told_by_its_place() -> None:
    inside = frame("run <site>/torch/utils/data/dataloader.py:3")
    assert is_in(inside, "torch/utils/data")
    assert is_in(inside, "torch/utils/data/dataloader")
    assert not is_in(inside, "torch/utils/dat")
    assert not is_in(inside, "utils/data/loader")
    assert is_in(GET, "queue")
    assert not is_in(frame("get /home/me/myqueue.py:1"), "queue")


def test_compiled_code_and_libraries_are_told_apart_from_a_persons_own() -> None:
    assert is_native(frame("sem_wait@C"))
    assert not is_native(frame("<module> <string>:1"))
    assert not is_native(frame("main /usr/bin/torchrun:8"))
    assert is_library(GET)
    assert is_library(frame("f <site>/torch/x.py:1"))
    assert not is_library(STEP)


def test_own_code_comes_before_packages_and_those_before_the_standard_library() -> None:
    package = frame("log <site>/wandb/run.py:5")
    assert own_frame(thread("read@C", GET, package, STEP)) == STEP
    assert own_frame(thread("read@C", GET, package)) == package
    assert own_frame(thread("read@C", GET)) == GET
    assert own_frame(thread("read@C")) is None


def test_the_parts_of_a_stack() -> None:
    one = thread("read@C", "os_read@P", GET, "eval@P", STEP)
    assert symbols(one) == ("read", "os_read")
    assert native_top(one) == one.frames[:2]
    assert innermost(one) == GET
    assert list(python_frames(one)) == [GET, STEP]
    assert name(GET) == "get"
    assert find_frame(one, "queue", functions=("get",)) == GET
    assert find_frame(one, "queue", functions=("put",)) is None


def test_places_as_a_person_says_them() -> None:
    assert where(STEP) == "Trainer.step (train.py:12)"
    assert where(frame("<module> a.py:1")) == "the module's top level (a.py:1)"
    assert where(None) == "an unknown function"
    assert where_is(thread(GET, STEP)) == "Queue.get, called from Trainer.step (train.py:12)"
    assert where_is(thread(STEP)) == "Trainer.step (train.py:12)"
    assert where_is(thread("read@C")) == "code whose stack could not be read"


@pytest.mark.parametrize(
    ("source", "locks"),
    [
        ("with self.lock:", ("self.lock",)),
        ("with a, self.b:  # both", ("a", "self.b")),
        ("with lock: pass", ("lock",)),
        ("async with gate:", ("gate",)),
        ("with open(path) as file:", ()),
        ("with locks['a']:", ("locks['a']",)),
        ("lock.acquire()", ("lock",)),
        ("row = self.rows.get(timeout=3)", ("self.rows",)),
        ("thread.join()", ("thread",)),
        ("x = 3", ()),
    ],
)
def test_locks_are_named_by_the_line_that_takes_them(source: str, locks: tuple[str, ...]) -> None:
    assert locks_named_in(source) == locks


def test_two_names_of_one_lock_have_their_last_part_in_common() -> None:
    assert short("self.saver.lock") == short("saver.lock") == short("lock") == "lock"
