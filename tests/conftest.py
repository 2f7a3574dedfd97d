"""What every test may count on: a cache of its own, no network, chance that comes again."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.shares import in_shares

from headway.supervise.live import runtime_folder

# The same examples each time, and no clock: a test is never right by luck.
settings.register_profile("headway", derandomize=True, deadline=None, database=None)
settings.load_profile("headway")

os.environ["HF_HUB_OFFLINE"] = "1"

# Until all tests are known: they stay until the end, and looking for garbage among them takes a
# quarter of the time until the first one runs.
gc.disable()

# Side by side, each test process gets a core of its own, and so do the trainers that it starts
# (they count the cores they may use): two trainers that share two cores with two threads each
# spend their time waiting for one another.
_worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
if _worker.isdigit() and hasattr(os, "sched_setaffinity"):
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_worker) % len(_cores)]})
# Small tensors and a test process per core: more threads only wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"


class FailuresAtOnce:
    """Prints each failure when it happens: a run that is cut short has told what it found."""

    def __init__(self, config: pytest.Config) -> None:
        self._plugins = config.pluginmanager

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """See `pytest.hookspec`."""
        terminal = self._plugins.get_plugin("terminalreporter")  # not there at configuration yet
        if report.failed and terminal is not None:
            last = report.longreprtext.rstrip().rpartition("\n")[2]
            terminal.write_line(f"\nFAILED {report.nodeid} after {report.duration:.0f} s: {last}")


def pytest_configure(config: pytest.Config) -> None:
    """Print failures as they happen, in the process that has the terminal."""
    if not _worker:
        config.pluginmanager.register(FailuresAtOnce(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the tests in the order of their shares, where they are shared."""
    if _worker:
        items[:] = in_shares(items, config.workerinput["workercount"])


def pytest_collection_finish() -> None:
    """Look for garbage again, but not among the tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime folder of the test's own: no job of this machine is seen or disturbed."""
    monkeypatch.setattr(runtime_folder, "_places", lambda: [(tmp_path, "live")])
    return runtime_folder.runtime_folder()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """No test reads or writes the cache of the person who runs it."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        yield cache
