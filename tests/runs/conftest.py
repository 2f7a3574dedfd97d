"""Fixtures of the training tests, for tests of runs that need a trained one."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.training.conftest import here, no_matrix_products_for_their_own_sake

__all__ = ["here", "no_matrix_products_for_their_own_sake"]


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """A folder where fsync costs nothing: a kill loses nothing that a process has written."""
    shared = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=shared if shared.is_dir() else None))
    yield folder
    shutil.rmtree(folder)
