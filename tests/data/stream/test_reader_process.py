"""The reader makes the windows that are requested, in order, and none twice."""

import io
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from headway.base.pulse import Pulse, ReaderWait
from headway.data.batching.rows import Segment
from headway.data.examples.maker import ExampleOptions
from headway.data.examples.tokenizer import byte_level
from headway.data.sources.find import find_sources
from headway.data.stream import reader_process
from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition
from headway.data.stream.reader_process import WindowRequest, read_ahead
from headway.data.stream.spec import StreamFile, StreamSpec
from headway.data.stream.window import (
    RowOrigin,
    Window,
    WindowFacts,
    load_window,
    make_window,
    save_window,
    window_path,
)

ROWS = [[Segment(np.array([1, 2, 3]), None)]]


def window_after(number: int) -> Window:
    before = StreamCursor(number, StreamPosition(0, number), steps=number)
    after = StreamCursor(number + 1, StreamPosition(0, number + 1), steps=number + 1)
    facts = WindowFacts(before, after, has_short=False, rejected=(), units={})
    return make_window(ROWS, [RowOrigin(number, number, 1)], facts, "uint16")


class Counting:
    """A stream whose windows are made at once; it notes which ones and from where."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.made: list[int] = []

    def run(
        self, cursor: StreamCursor, held_out: Mapping[int, int], take: Callable[[Window], None]
    ) -> None:
        self.begun.append(cursor.window)
        for number in range(cursor.window, 100):
            self.made.append(number)
            take(window_after(number))


class Watched(Pulse):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    @contextmanager
    def waiting(self, what: str) -> Generator[None]:
        self.waits.append(what)
        with super().waiting(what):
            yield


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts requests, and then the end, on standard input."""

    def write(*requests: WindowRequest) -> None:
        lines = b"".join(msgspec.json.encode(one) + b"\n" for one in requests)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines)))

    return write


def served(folder: Path, pulse: Pulse | None = None) -> Counting:
    stream: Any = Counting()
    reader = reader_process._ReadAhead(folder, stream, {}, StreamCursor(), pulse or Pulse())
    reader.run()
    return stream


def test_the_requested_windows_are_made_and_no_others(
    tmp_path: Path, send: Callable[..., None]
) -> None:
    send(WindowRequest(2, 100), WindowRequest(3, 100))
    stream = served(tmp_path)
    assert (stream.begun, stream.made) == ([0], [0, 1, 2])
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        window_path(tmp_path, n).name for n in range(3)
    ]


def test_a_request_for_windows_that_were_requested_before_makes_none(
    tmp_path: Path, send: Callable[..., None]
) -> None:
    send(WindowRequest(2, 100), WindowRequest(1, 100))
    assert served(tmp_path).made == [0, 1]


def test_no_window_is_made_beyond_the_last_step(tmp_path: Path, send: Callable[..., None]) -> None:
    send(WindowRequest(6, 2))
    assert served(tmp_path).made == [0, 1]


def test_windows_on_disk_are_not_made_again(tmp_path: Path, send: Callable[..., None]) -> None:
    for number in (0, 1, 3):
        save_window(tmp_path, number, window_after(number))
    send(WindowRequest(6, 100))
    stream = served(tmp_path)
    assert stream.begun == [2, 4]
    assert sorted(set(stream.made)) == [2, 4, 5]


def test_a_damaged_window_is_made_again(tmp_path: Path, send: Callable[..., None]) -> None:
    window_path(tmp_path, 0).write_bytes(b"half")
    send(WindowRequest(1, 100))
    assert served(tmp_path).made == [0]
    assert load_window(tmp_path, 0) is not None


def test_a_request_with_a_cursor_continues_there(tmp_path: Path, send: Callable[..., None]) -> None:
    send(WindowRequest(1, 100), WindowRequest(8, 100, StreamCursor(7, steps=7)))
    stream = served(tmp_path)
    assert stream.begun == [0, 7]
    assert not window_path(tmp_path, 1).exists()
    assert window_path(tmp_path, 7).exists()


def test_without_a_request_nothing_is_made_and_the_wait_has_its_name(
    tmp_path: Path, send: Callable[..., None]
) -> None:
    send()
    pulse = Watched()
    assert served(tmp_path, pulse).made == []
    assert pulse.waits == [ReaderWait.REQUEST]


def test_old_windows_make_room_but_the_first_stays(
    tmp_path: Path, send: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_process, "_KEPT_WINDOWS", 4)
    send(WindowRequest(12, 100))
    served(tmp_path)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == [window_path(tmp_path, n).name for n in (0, 8, 9, 10, 11)]


def test_the_held_out_rows_come_first_and_are_made_once(
    tmp_path: Path, send: Callable[..., None]
) -> None:
    data, store = tmp_path / "a.jsonl", tmp_path / "store"
    data.write_text("".join(f'{{"text": "row number {n}"}}\n' for n in range(40)))
    store.mkdir()
    byte_level().save(store)
    spec = StreamSpec("text", 16, "cut", 4, 1, 3, 1, 0.5, "uint16")
    options = ExampleOptions(None, 300, None, True)
    file = StreamFile(tuple(find_sources([str(data)])), options, str(store), spec)
    send(WindowRequest(1, 100))
    read_ahead(tmp_path, file, Pulse())
    held_out, first = load_window(tmp_path, HELD_OUT), load_window(tmp_path, 0)
    assert held_out is not None
    assert first is not None
    assert (len(held_out), len(first)) == (3, 4)
    written = window_path(tmp_path, HELD_OUT).stat().st_mtime_ns
    send(WindowRequest(1, 100))
    read_ahead(tmp_path, file, Pulse())
    assert window_path(tmp_path, HELD_OUT).stat().st_mtime_ns == written
