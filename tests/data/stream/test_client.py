"""The trainer's side of a flow, with real readers: whatever befalls them, the rows are the same."""

import io
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from headway.base.errors import DataRefused, MachineError
from headway.base.pulse import Pulse
from headway.data.examples.maker import ExampleOptions
from headway.data.examples.tokenizer import byte_level
from headway.data.sources.find import find
from headway.data.stream import client as feed_module
from headway.data.stream import reader_process as reader_module
from headway.data.stream.client import StreamClient, StreamEnded
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.reader_process import WindowRequest
from headway.data.stream.spec import StreamFile, load_stream, save_stream
from headway.data.stream.stream import StreamSpec
from headway.data.stream.window import window_path

WINDOWS = 6
HELD = 3
ROWS = 8


@pytest.fixture(autouse=True)
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_PULSE", raising=False)


def flow(folder: Path, text: str | None = None) -> Path:
    store = folder / "store"
    store.mkdir(parents=True)
    byte_level().save(store)
    rows = (f'{{"text": "{n:04d} a row of some length"}}\n' for n in range(400))
    data = folder / "data.jsonl"
    data.write_text(text or "".join(rows))
    shape = StreamSpec("text", 32, "cut", ROWS, HELD, 1, 0.5, "uint16")
    options = ExampleOptions(None, 300, None, True)
    file = StreamFile(tuple(find([str(data)])), options, str(store), shape, "2026-11-21")
    save_stream(folder / "flow", file)
    return folder / "flow"


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[StreamClient]:
    made = StreamClient(flow(tmp_path), WINDOWS)
    yield made
    made.end()


def taken(
    feed: StreamClient, first: int = 0, last: int = HELD + WINDOWS * ROWS
) -> list[list[list[int]]]:
    return [[s.ids.tolist() for s in feed.segments(row)] for row in range(first, last)]


def deleted(folder: Path) -> None:
    for file in folder.glob("*.window"):
        file.unlink()


def test_rows_come_in_order_and_are_made_once(feed: StreamClient) -> None:
    first = taken(feed)
    assert len(first) == HELD + WINDOWS * ROWS
    written = {p.name: p.stat().st_mtime_ns for p in feed.folder.glob("*.window")}
    other = StreamClient(feed.folder, WINDOWS)
    assert taken(other) == first
    other.end()
    assert {p.name: p.stat().st_mtime_ns for p in feed.folder.glob("*.window")} == written


def test_f55_a_reader_that_is_killed_is_replaced_and_the_rows_are_the_same(
    feed: StreamClient, tmp_path: Path
) -> None:
    twin = StreamClient(flow(tmp_path / "twin"), WINDOWS)
    wanted = taken(twin)
    twin.end()
    got = []
    for row in range(HELD + WINDOWS * ROWS):
        if row % 13 == 5:
            feed._reader.kill()
            feed._reader.wait()
            deleted_ahead(feed, row)
        got += taken(feed, row, row + 1)
    assert got == wanted
    assert feed.num_restarts >= 2


def deleted_ahead(feed: StreamClient, row: int) -> None:
    """Undo what the reader had made ahead of a row's window."""
    window = max(0, row - HELD) // ROWS
    for number in range(window + 1, WINDOWS):
        window_path(feed.folder, number).unlink(missing_ok=True)


def test_f55_a_reader_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    feed = StreamClient(flow(tmp_path), WINDOWS, patience_s=1.0)
    first = taken(feed, 0, HELD + ROWS)
    os.kill(feed._reader.pid, signal.SIGSTOP)
    deleted_ahead(feed, HELD)
    rest = taken(feed, HELD + ROWS)
    assert feed.num_restarts == 1
    feed.end()
    twin = StreamClient(flow(tmp_path / "twin"), WINDOWS)
    assert taken(twin) == first + rest
    twin.end()


def test_a_window_that_is_damaged_is_made_again(feed: StreamClient) -> None:
    rows = taken(feed)
    again = StreamClient(feed.folder, WINDOWS)
    taken(again, 0, HELD + ROWS)
    window_path(feed.folder, 3).write_bytes(b"not a window")
    assert taken(again) == rows
    again.end()


def test_a_checkpoints_stand_is_enough_to_go_on(feed: StreamClient, tmp_path: Path) -> None:
    rows = taken(feed)
    stand = feed.stand(WINDOWS)
    assert stand.window == WINDOWS
    middle = StreamClient(feed.folder, WINDOWS)
    taken(middle, 0, HELD + 3 * ROWS)
    stand = middle.stand(3)
    middle.end()
    deleted(feed.folder)
    resumed = StreamClient(feed.folder, WINDOWS)
    resumed.window(HELD_OUT)
    resumed.window(0)
    resumed.seek(stand)
    assert taken(resumed, HELD + 3 * ROWS) == rows[HELD + 3 * ROWS :]
    assert not window_path(feed.folder, 2).exists()  # what was trained is not read again
    resumed.end()


def test_o03_whoever_waits_for_rows_is_told_of_the_end(feed: StreamClient) -> None:
    held_out = taken(feed, 0, HELD)
    feed.window(0)
    os.kill(feed._reader.pid, signal.SIGSTOP)
    deleted_ahead(feed, HELD)
    waits = threading.Event()
    with ThreadPoolExecutor(1) as other:
        asked = other.submit(feed.window, 1, waits.set)
        assert waits.wait(20)
        feed.end()
        with pytest.raises(StreamEnded):
            asked.result(20)
    assert feed.num_restarts == 0
    with pytest.raises(StreamEnded):
        feed.window(2)
    assert taken(feed, 0, HELD) == held_out


def test_readers_that_die_one_after_the_other_are_told(
    feed: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(feed, 0, HELD + ROWS)
    deleted_ahead(feed, HELD)
    started = feed._started

    def stillborn() -> object:
        reader = started()
        reader.kill()
        return reader

    monkeypatch.setattr(feed, "_started", stillborn)
    feed._reader.kill()
    with pytest.raises(MachineError, match="its reader process ends"):
        taken(feed)


def test_what_the_reader_refuses_reaches_the_trainer(tmp_path: Path) -> None:
    good = '{"text": "a row of some length"}\n' * 60
    feed = StreamClient(flow(tmp_path, good + "{bad\n" * 400), WINDOWS)
    with pytest.raises(DataRefused, match="cannot be trained on"):
        taken(feed)
    feed.end()


def test_rejected_rows_are_written_once_however_often_an_attempt_is_killed(
    tmp_path: Path,
) -> None:
    rows = [f'{{"text": "{n:04d} a row of some length"}}' for n in range(400)]
    rows[::20] = ["{bad"] * 20
    feed = StreamClient(flow(tmp_path, "\n".join(rows) + "\n"), WINDOWS)
    taken(feed)
    path = tmp_path / "rejected.jsonl"
    counts: list[int] = []
    before = StreamCursor()
    for window in range(WINDOWS):
        for _ in range(2):  # the second time is an attempt that was killed behind the first
            feed.write_rejected(window, path, before.num_rejected)
        loaded = feed.window(window)
        before = loaded.facts.after
        counts.append(len(path.read_text().splitlines()) if path.exists() else 0)
        assert counts[-1] == before.num_rejected
    assert counts[-1] > 3
    assert len(set(path.read_text().splitlines())) == counts[-1]
    feed.end()


def test_old_windows_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = flow(tmp_path)
    wish = io.TextIOWrapper(io.BytesIO(msgspec.json.encode(WindowRequest(12)) + b"\n"))
    monkeypatch.setattr(reader_module.sys, "stdin", wish)
    monkeypatch.setattr(reader_module, "_KEPT", 4)
    reader_module.read_ahead(folder, load_stream(folder), Pulse())
    kept = sorted(p.name for p in folder.glob("*.window"))
    assert kept == [*(f"{n:08}.window" for n in (0, 8, 9, 10, 11)), "held-out.window"]


def test_constants_leave_room_for_slow_machines() -> None:
    assert feed_module._PATIENCE_S >= 20
