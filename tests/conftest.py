"""What every test may count on: a cache of its own, no network, chance that comes again."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# The same examples each time, and no clock: a test is never right by luck.
settings.register_profile("headway", derandomize=True, deadline=None, database=None)
settings.load_profile("headway")

os.environ["HF_HUB_OFFLINE"] = "1"

# Side by side, each test process gets a core of its own, and so do the trainers that it starts
# (they count the cores they may use): two trainers that share two cores with two threads each
# spend their time waiting for one another.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
if _worker.isdigit() and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker) % len(_cores)]})
# Small tensors and a test process per core: more threads only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the cache of whoever runs it."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield cache
