"""Compile level: what is kept on disk, and whether anything is compiled."""

import pytest

from headway.model.kernels.compile_level import CompileLevel


@pytest.mark.parametrize(
    ("kept", "compiles"), [("nothing", False), ("operations", True), ("layers", True)]
)
def test_a_level_is_kept_by_its_name(kept: str, compiles: bool) -> None:
    assert CompileLevel(kept).compiles is compiles
