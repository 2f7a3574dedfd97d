"""A disk of the live folders that is full is a reason of its own."""

from collections import namedtuple

import pytest

from headway.base.errors import Cause, MachineError
from headway.supervise.live import shared_memory
from headway.supervise.live.shared_memory import is_shared_memory_full, shared_memory_errors

Disk = namedtuple("Disk", "total used free")


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    usage = Disk(10**9, 0, request.param)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda _: usage)


def fail(error: Exception) -> None:
    with shared_memory_errors():
        raise error


@pytest.mark.parametrize("free", [4096], indirect=True)
@pytest.mark.parametrize(
    "error", [OSError("no space"), MachineError("cannot be written", cause=Cause.NOT_WRITABLE)]
)
def test_full_it_says_so(free: None, error: Exception) -> None:
    assert is_shared_memory_full()
    with pytest.raises(MachineError) as refused:
        fail(error)
    assert refused.value.cause is Cause.SHARED_MEMORY_FULL
    assert refused.value.have == "4.1 kB free"
    assert refused.value.__cause__ is error


@pytest.mark.parametrize("free", [10**9], indirect=True)
def test_with_room_an_error_is_its_own(free: None) -> None:
    assert not is_shared_memory_full()
    with pytest.raises(OSError, match="no space"):
        fail(OSError("no space"))


@pytest.mark.parametrize("free", [0], indirect=True)
def test_other_errors_pass(free: None) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
