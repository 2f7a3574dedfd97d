"""Errors that this machine causes, told apart from bugs."""

import pytest

from headway.base.errors import Cause
from headway.base.host.machine_errors import machine_refusal


def test_a_package_that_is_missing() -> None:
    refused = machine_refusal(ModuleNotFoundError("No module named 'numpy'", name="numpy"))
    assert refused is not None
    assert refused.cause is Cause.MISSING_PACKAGE


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), KeyError("numpy")])
def test_any_other_error_is_not_the_machine_s(error: Exception) -> None:
    assert machine_refusal(error) is None
