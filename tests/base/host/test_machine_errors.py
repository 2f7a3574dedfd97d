"""Errors that this machine causes, told apart from bugs."""

import errno
from pathlib import Path

import pytest

from headway.base.errors import Cause
from headway.base.host import limits
from headway.base.host.limits import Limits
from headway.base.host.machine_errors import machine_refusal


def test_a_package_that_is_missing() -> None:
    refused = machine_refusal(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    assert refused is not None
    assert refused.cause is Cause.MISSING_PACKAGE


def test_a_limit_that_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    tight = Limits(threads_left=0, address_space=1, open_files=1)
    monkeypatch.setattr(limits, "this_process", lambda: tight)
    refused = machine_refusal(MemoryError())
    assert refused is not None
    assert refused.cause is Cause.ADDRESS_SPACE_LIMIT


@pytest.mark.parametrize(
    ("number", "cause"),
    [(errno.ENOSPC, Cause.DISK_FULL), (errno.EFBIG, Cause.FILE_TOO_LARGE)],
)
def test_a_disk_that_takes_no_more(number: int, cause: Cause, tmp_path: Path) -> None:
    refused = machine_refusal(OSError(number, "no", str(tmp_path / "a")))
    assert refused is not None
    assert refused.cause is cause
    assert str(tmp_path / "a") in refused.what


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), KeyError("numpy")])
def test_any_other_error_is_not_the_machine_s(error: Exception) -> None:
    assert machine_refusal(error) is None
