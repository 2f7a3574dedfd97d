"""Rows of a stream in a worker without a reader: those of the worker that has one."""

import threading
from pathlib import Path

import pytest
from tests.data.stream.streams import STEPS, stream

from headway.data.stream.client import StreamClient
from headway.data.stream.stream_rows import StreamEnded, StreamRows


@pytest.fixture(autouse=True)
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_PULSE", raising=False)


def test_every_worker_gets_the_rows_that_one_reader_makes(tmp_path: Path) -> None:
    client = StreamClient(stream(tmp_path), STEPS)
    other = StreamRows(client.folder)
    try:
        client.await_first()
        other.await_first()
        assert other.held_out().tolist() == client.held_out().tolist()
        found: list[object] = []
        reading = threading.Thread(target=lambda: found.extend(contents(other)))
        reading.start()
        assert list(contents(client)) == (reading.join(60) or found)
        assert client.num_restarts == 0
    finally:
        client.end()


def contents(rows: StreamRows) -> list[object]:
    """The tokens of every step, and the cursors around it."""
    steps = [rows.rows(step)[1].tolist() for step in range(1, STEPS + 1)]
    ids = [[s.ids.tolist() for s in rows.segments(row)] for row in steps[-1]]
    return [steps, ids, rows.cursors(STEPS)]


def test_a_worker_continues_from_the_cursor_of_a_checkpoint(tmp_path: Path) -> None:
    client = StreamClient(stream(tmp_path), STEPS)
    try:
        whole = [client.rows(step)[1].tolist() for step in range(1, STEPS + 1)]
        before, _ = client.cursors(STEPS - 1)
        other = StreamRows(client.folder)
        other.await_first()
        other.seek(before)
        assert other.rows(STEPS)[1].tolist() == whole[-1]
    finally:
        client.end()


def test_a_wait_for_a_window_that_nobody_makes_can_be_ended(tmp_path: Path) -> None:
    rows = StreamRows(stream(tmp_path))
    waited = threading.Event()

    def end() -> None:
        rows.end()
        waited.set()

    with pytest.raises(StreamEnded):
        rows.await_first(end)
    assert waited.is_set()
