"""The stream client with real reader processes: whatever happens to them, the rows are the same."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headway.base.errors import Cause, DataRefused, MachineError
from headway.data.examples.maker import ExampleOptions
from headway.data.examples.tokenizer import byte_level
from headway.data.sources.find import find_sources
from headway.data.stream import client as client_module
from headway.data.stream.client import StreamClient, StreamEnded
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.spec import StreamFile, save_stream
from headway.data.stream.stream import StreamSpec
from headway.data.stream.window import window_path

WINDOWS = 6
HELD = 3
ROWS = 8


@pytest.fixture(autouse=True)
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_PULSE", raising=False)


def stream(folder: Path, text: str | None = None) -> Path:
    store = folder / "store"
    store.mkdir(parents=True)
    byte_level().save(store)
    rows = (f'{{"text": "{n:04d} a row of some length"}}\n' for n in range(400))
    data = folder / "data.jsonl"
    data.write_text(text or "".join(rows))
    spec = StreamSpec("text", 32, "cut", ROWS, HELD, 1, 0.5, "uint16")
    options = ExampleOptions(None, 300, None, True)
    file = StreamFile(tuple(find_sources([str(data)])), options, str(store), spec, "2026-11-21")
    save_stream(folder / "stream", file)
    return folder / "stream"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[StreamClient]:
    made = StreamClient(stream(tmp_path), WINDOWS)
    yield made
    made.end()


def taken(
    client: StreamClient, first: int = 0, last: int = HELD + WINDOWS * ROWS
) -> list[list[list[int]]]:
    return [[s.ids.tolist() for s in client.segments(row)] for row in range(first, last)]


def deleted(folder: Path) -> None:
    for file in folder.glob("*.window"):
        file.unlink()


def test_rows_come_in_order_and_are_made_once(client: StreamClient) -> None:
    first = taken(client)
    assert len(first) == HELD + WINDOWS * ROWS
    written = {p.name: p.stat().st_mtime_ns for p in client.folder.glob("*.window")}
    other = StreamClient(client.folder, WINDOWS)
    assert taken(other) == first
    other.end()
    assert {p.name: p.stat().st_mtime_ns for p in client.folder.glob("*.window")} == written


def test_f55_a_reader_that_is_killed_is_replaced_and_the_rows_are_the_same(
    client: StreamClient, tmp_path: Path
) -> None:
    twin = StreamClient(stream(tmp_path / "twin"), WINDOWS)
    wanted = taken(twin)
    twin.end()
    got = []
    for row in range(HELD + WINDOWS * ROWS):
        if row % 13 == 5:
            client._reader.send_signal(signal.SIGKILL)
            client._reader.wait()
            deleted_ahead(client, row)
        got += taken(client, row, row + 1)
    assert got == wanted
    assert client.num_restarts >= 2


def deleted_ahead(client: StreamClient, row: int) -> None:
    """Undo what the reader had made ahead of a row's window."""
    window = max(0, row - HELD) // ROWS
    for number in range(window + 1, WINDOWS):
        window_path(client.folder, number).unlink(missing_ok=True)


def test_f55_a_reader_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    client = StreamClient(stream(tmp_path), WINDOWS, max_silence_s=4.0)
    first = taken(client, 0, HELD + ROWS)
    os.kill(client._reader.pid, signal.SIGSTOP)
    deleted_ahead(client, HELD)
    rest = taken(client, HELD + ROWS)
    assert client.num_restarts == 1
    client.end()
    twin = StreamClient(stream(tmp_path / "twin"), WINDOWS)
    assert taken(twin) == first + rest
    twin.end()


def test_a_window_that_is_damaged_is_made_again(client: StreamClient) -> None:
    rows = taken(client)
    again = StreamClient(client.folder, WINDOWS)
    taken(again, 0, HELD + ROWS)
    window_path(client.folder, 3).write_bytes(b"not a window")
    assert taken(again) == rows
    again.end()


def test_reading_continues_from_a_checkpoints_cursor(client: StreamClient, tmp_path: Path) -> None:
    rows = taken(client)
    cursor = client.cursor(WINDOWS)
    assert cursor.window == WINDOWS
    middle = StreamClient(client.folder, WINDOWS)
    taken(middle, 0, HELD + 3 * ROWS)
    cursor = middle.cursor(3)
    middle.end()
    deleted(client.folder)
    resumed = StreamClient(client.folder, WINDOWS)
    resumed.window(HELD_OUT)
    resumed.window(0)
    resumed.seek(cursor)
    assert taken(resumed, HELD + 3 * ROWS) == rows[HELD + 3 * ROWS :]
    assert not window_path(client.folder, 2).exists()  # what was trained is not read again
    resumed.end()


def test_o03_a_thread_that_waits_for_rows_learns_of_the_end(client: StreamClient) -> None:
    held_out = taken(client, 0, HELD)
    client.window(0)
    os.kill(client._reader.pid, signal.SIGSTOP)
    deleted_ahead(client, HELD)
    waits = threading.Event()
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(client.window, 1, waits.set)
        assert waits.wait(20)
        client.end()
        with pytest.raises(StreamEnded):
            asked.result(20)
    assert client.num_restarts == 0
    with pytest.raises(StreamEnded):
        client.window(2)
    assert taken(client, 0, HELD) == held_out


def test_a_reader_that_keeps_dying_is_an_error(
    client: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(client, 0, HELD + ROWS)
    deleted_ahead(client, HELD)
    restart = client._reader.restart

    def stillborn() -> bool:
        restarted = restart()
        client._reader.send_signal(signal.SIGKILL)
        return restarted

    monkeypatch.setattr(client._reader, "restart", stillborn)
    client._reader.send_signal(signal.SIGKILL)
    with pytest.raises(MachineError, match="the reader process keeps ending") as refusal:
        taken(client)
    assert refusal.value.cause == Cause.PROCESS_KILLED


def test_what_the_reader_refuses_reaches_the_trainer(tmp_path: Path) -> None:
    good = '{"text": "a row of some length"}\n' * 60
    client = StreamClient(stream(tmp_path, good + "{bad\n" * 400), WINDOWS)
    with pytest.raises(DataRefused, match="cannot be trained on"):
        taken(client)
    client.end()


def test_rejected_rows_are_written_once_however_often_an_attempt_is_killed(
    tmp_path: Path,
) -> None:
    rows = [f'{{"text": "{n:04d} a row of some length"}}' for n in range(400)]
    rows[::20] = ["{bad"] * 20
    client = StreamClient(stream(tmp_path, "\n".join(rows) + "\n"), WINDOWS)
    taken(client)
    path = tmp_path / "rejected.jsonl"
    counts: list[int] = []
    before = StreamCursor()
    for window in range(WINDOWS):
        for _ in range(2):  # the second time is an attempt that was killed behind the first
            client.write_rejected(window, path, before.num_rejected)
        loaded = client.window(window)
        before = loaded.facts.after
        counts.append(len(path.read_text().splitlines()) if path.exists() else 0)
        assert counts[-1] == before.num_rejected
    assert counts[-1] > 3
    assert len(set(path.read_text().splitlines())) == counts[-1]
    client.end()


def test_constants_leave_room_for_slow_machines() -> None:
    assert client_module._MAX_SILENCE_S >= 20
