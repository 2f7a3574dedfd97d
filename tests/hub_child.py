"""What a fresh process asks of the hub: the libraries read their settings when imported."""

import contextlib
import multiprocessing
import os
import site
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headway.base.errors import Refusal, RefusalMessage, message_of
from headway.base.network.retry import RetryPolicy
from headway.base.pulse import Pulse

QUICK = RetryPolicy(max_attempts=5, stall_timeout_s=30, initial_backoff_s=0.01, max_backoff_s=0.1)


class Noted(Pulse):
    """A pulse that remembers phases, waits and how far they came."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, Any]] = []
        super().__init__()

    def enter(self, phase: str, *, total: int = 0, unit: str = "") -> None:
        self.notes.append(("phase", (phase, total, unit)))
        super().enter(phase, total=total, unit=unit)

    def waiting(self, what: str) -> contextlib.AbstractContextManager[None]:
        self.notes.append(("wait", what))
        return super().waiting(what)

    def progress(self, done: int) -> None:
        self.notes.append(("done", done))
        super().progress(done)


def find_dataset(address: str) -> list[tuple[str, tuple[Any, ...], int]] | RefusalMessage:
    from headway.data.sources import hub_dataset as hub

    try:
        found = hub.find(address, Pulse(), QUICK)
    except Refusal as refusal:
        return message_of(refusal)
    return [(source.name, source.stamp, source.size) for source in found]


def read_rows(
    address: str, skip: int = 0, retry: RetryPolicy = QUICK
) -> tuple[list[Any], list[str]] | RefusalMessage:
    """Rows of all shards, each shard's first `skip` left out; what was waited for."""
    from headway.data.sources import hub_dataset as hub

    pulse = Noted()
    rows: list[Any] = []
    try:
        for source in hub.find(address, pulse, QUICK):
            rows += [row for row in hub.rows(source, pulse, skip, retry) if row is not None]
    except Refusal as refusal:
        return message_of(refusal)
    return rows, [what for kind, what in pulse.notes if kind == "wait"]


def fetch_model(name: str, **given: Any) -> tuple[str, str, list[tuple[str, Any]]] | RefusalMessage:
    """Its folder and commit, and what the pulse was told."""
    from headway.planning import hub_download as download

    pulse = Noted()
    try:
        retry = {"lookup_retry": QUICK, "download_retry": QUICK}
        fetched = download.download_model(name, pulse, **(retry | given))
    except Refusal as refusal:
        return message_of(refusal)
    return str(fetched.folder), fetched.commit, pulse.notes


def find_model(name: str) -> Any:
    """Where a job with `--model name` starts."""
    from headway.config.settings import Settings
    from headway.planning.model_source import find_model_source

    return find_model_source(Settings(model=name), 0, Pulse()).initial


@contextlib.contextmanager
def child(endpoint: str, home: Path, **environment: str) -> Iterator[ProcessPoolExecutor]:
    """A process whose hub is at `endpoint`."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_OFFLINE", "HF_TOKEN", "HF_TOKEN_PATH"):
            patch.delenv(name, raising=False)
        patch.setenv("HF_ENDPOINT", endpoint.rstrip("/"))
        patch.setenv("HF_HOME", str(home))
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        for name, value in environment.items():
            patch.setenv(name, value)
        here = str(Path(__file__).parents[1])
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(1, spawn, initializer=site.addsitedir, initargs=(here,))
        pool.submit(os.getpid).result()  # it has its environment now
    with pool:
        yield pool
