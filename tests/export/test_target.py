"""Each name has its target, and each target has all that an export calls."""

from typing import get_args

import pytest

from headway.export.request import TARGETS, TargetName
from headway.export.target import target_of


def test_every_name_is_a_target() -> None:
    assert get_args(TargetName) == TARGETS


@pytest.mark.parametrize("name", ["hf"])
def test_a_target_has_what_is_called(name: TargetName) -> None:
    target = target_of(name)
    assert isinstance(target.verifies_with, tuple)
    assert all(callable(getattr(target, method)) for method in ("num_bytes", "write", "verify"))
