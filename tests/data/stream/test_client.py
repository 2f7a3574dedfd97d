"""The stream client with real reader processes: whatever happens to them, the rows are the same."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.data.stream.streams import BATCH, HELD, STEPS, WINDOW_STEPS, WINDOWS, stream

from headway.base.errors import BrokenContract, Cause, DataRefused, MachineError
from headway.base.pulse import ReaderWait
from headway.data.examples.tokenizer import byte_level
from headway.data.order import Numbers
from headway.data.stream import client as client_module
from headway.data.stream import stream_rows
from headway.data.stream.client import StreamClient, StreamEnded
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.spec import load_stream, save_stream
from headway.data.stream.window import Window, load_window, save_window, window_path

WORDS = byte_level()


@pytest.fixture(autouse=True)
def no_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWAY_PULSE", raising=False)


def chats(folder: Path, num: int, **shape: int) -> Path:
    made = stream(folder, "".join(chat("q", f"answer {number}") for number in range(num)))
    file = load_stream(made)
    spec = replace(file.spec, kind="conversations", max_length=600, held_out=0, **shape)
    save_stream(made, replace(file, spec=spec))
    return made


def chat(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[StreamClient]:
    made = StreamClient(stream(tmp_path), STEPS)
    yield made
    made.end()


def held_out(client: StreamClient) -> list[list[list[int]]]:
    return tokens_of(client, client.held_out())


def taken(client: StreamClient, first: int = 1, last: int = STEPS) -> list[list[list[list[int]]]]:
    """The tokens of the rows of some steps."""
    return [tokens_of(client, client.rows(step)[1]) for step in range(first, last + 1)]


def tokens_of(client: StreamClient, rows: Numbers) -> list[list[list[int]]]:
    return [[s.ids.tolist() for s in client.segments(row)] for row in rows.tolist()]


def deleted(folder: Path) -> None:
    for file in folder.glob("*.window"):
        file.unlink()


def test_rows_come_in_order_and_are_made_once(client: StreamClient) -> None:
    first = taken(client)
    assert len(held_out(client)) == HELD
    assert [len(rows) for rows in first] == [BATCH] * STEPS
    written = {p.name: p.stat().st_mtime_ns for p in client.folder.glob("*.window")}
    other = StreamClient(client.folder, STEPS)
    assert taken(other) == first
    other.end()
    assert {p.name: p.stat().st_mtime_ns for p in client.folder.glob("*.window")} == written


def test_f55_a_reader_that_is_killed_is_replaced_and_the_rows_are_the_same(
    client: StreamClient, tmp_path: Path
) -> None:
    twin = StreamClient(stream(tmp_path / "twin"), STEPS)
    wanted = taken(twin)
    twin.end()
    got = []
    for step in range(1, STEPS + 1):
        if step % 4 == 2:
            client._reader.send_signal(signal.SIGKILL)
            client._reader.wait()
            deleted_ahead(client, step)
        got += taken(client, step, step)
    assert got == wanted
    assert client.num_restarts >= 2


def deleted_ahead(client: StreamClient, step: int) -> None:
    """Undo what the reader had made ahead of a step's window."""
    window = (step - 1) // WINDOW_STEPS
    for number in range(window + 1, WINDOWS):
        window_path(client.folder, number).unlink(missing_ok=True)


def test_f55_a_reader_that_is_stopped_is_replaced(tmp_path: Path) -> None:
    client = StreamClient(stream(tmp_path), STEPS, max_silence_s=4.0)
    first = taken(client, 1, WINDOW_STEPS)
    os.kill(client._reader.pid, signal.SIGSTOP)
    deleted_ahead(client, 1)
    rest = taken(client, WINDOW_STEPS + 1)
    assert client.num_restarts == 1
    client.end()
    twin = StreamClient(stream(tmp_path / "twin"), STEPS)
    assert taken(twin) == first + rest
    twin.end()


def test_patience_with_a_reader_begins_with_its_first_beat(tmp_path: Path) -> None:
    """On a slow disk its imports take longer than it may be silent later."""
    client = StreamClient(stream(tmp_path), STEPS, max_silence_s=2.5)
    os.kill(client._reader.pid, signal.SIGSTOP)  # as if its imports took so long
    assert client.reader_pulse() is None
    threading.Timer(3.5, os.kill, (client._reader.pid, signal.SIGCONT)).start()
    taken(client, 1, WINDOW_STEPS)
    assert client.num_restarts == 0
    client.end()


def test_a_window_that_is_damaged_is_made_again(client: StreamClient) -> None:
    rows = taken(client)
    again = StreamClient(client.folder, STEPS)
    taken(again, 1, WINDOW_STEPS)
    window_path(client.folder, 3).write_bytes(b"not a window")
    assert taken(again) == rows
    again.end()


def test_a_window_that_comes_between_two_looks_costs_no_restart(
    client: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[int] = []

    def look_too_early(folder: Path, number: int) -> Window | None:
        """Nothing at the first look; by the next one, the reader has made it and is idle."""
        if number in looked_at:
            return load_window(folder, number)
        looked_at.append(number)
        while not (load_window(folder, number) and is_idle(client)):
            time.sleep(0.01)
        return None

    monkeypatch.setattr(stream_rows, "load_window", look_too_early)
    client.await_first()
    assert looked_at == [HELD_OUT, 0]
    assert client.num_restarts == 0


def is_idle(client: StreamClient) -> bool:
    pulse = client.reader_pulse()
    return bool(pulse and pulse.waiting == ReaderWait.REQUEST)


def test_reading_continues_from_a_checkpoints_cursor(client: StreamClient, tmp_path: Path) -> None:
    rows = taken(client)
    _, cursor = client.cursors(STEPS)
    assert (cursor.window, cursor.steps) == (WINDOWS, STEPS)
    middle = StreamClient(client.folder, STEPS)
    taken(middle, 1, 3 * WINDOW_STEPS)
    _, cursor = middle.cursors(3 * WINDOW_STEPS)
    middle.end()
    deleted(client.folder)
    resumed = StreamClient(client.folder, STEPS)
    resumed.window(HELD_OUT)
    resumed.window(0)
    resumed.seek(cursor)
    first = 3 * WINDOW_STEPS
    assert taken(resumed, first + 1) == rows[first:]
    assert not window_path(client.folder, 2).exists()  # what was trained is not read again
    resumed.end()


def test_o03_a_thread_that_waits_for_rows_learns_of_the_end(client: StreamClient) -> None:
    before = held_out(client)
    client.window(0)
    os.kill(client._reader.pid, signal.SIGSTOP)
    deleted_ahead(client, 1)
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
    assert held_out(client) == before


def test_a_reader_that_keeps_dying_is_an_error(
    client: StreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(client, 1, WINDOW_STEPS)
    deleted_ahead(client, 1)
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
    client = StreamClient(stream(tmp_path, good + "{bad\n" * 400), STEPS)
    with pytest.raises(DataRefused, match="cannot be trained on"):
        taken(client)
    client.end()


def test_rejected_rows_are_written_once_however_often_an_attempt_is_killed(
    tmp_path: Path,
) -> None:
    rows = [f'{{"text": "{n:04d} a row of some length"}}' for n in range(400)]
    rows[::20] = ["{bad"] * 20
    client = StreamClient(stream(tmp_path, "\n".join(rows) + "\n"), STEPS)
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


def test_an_epoch_ends_before_the_next_begins(tmp_path: Path) -> None:
    """46 rows, 8 a step, windows for thousands: 6 steps an epoch, the last of 6 rows."""
    client = StreamClient(chats(tmp_path, 46, batch_size=8, steps_per_window=400), 15)
    batches, used = [], Counter()
    for step in range(1, 16):
        epoch, rows = client.rows(step)
        batches.append((epoch, rows))
        used.update((epoch, str(ids)) for ids in tokens_of(client, rows))
    assert set(used.values()) == {1}  # by content
    assert Counter(epoch for epoch, _ in used) == {0: 46, 1: 46, 2: 24}
    assert [epoch for epoch, _ in batches] == [0] * 6 + [1] * 6 + [2] * 3
    assert [len(rows) for _, rows in batches] == [8, 8, 8, 8, 8, 6] * 2 + [8] * 3
    assert client.cursors(6)[1].read == 46
    client.end()


def test_rows_that_were_there_before_are_refused(tmp_path: Path) -> None:
    folder = chats(tmp_path, 40, batch_size=4, steps_per_window=2)
    client = StreamClient(folder, 8)
    client.window(0)
    client._reader.send_signal(signal.SIGKILL)
    client._reader.wait()
    again = load_window(folder, 0)
    assert again is not None
    facts = replace(again.facts, before=again.facts.after)
    save_window(folder, 1, replace(again, facts=facts))  # the same rows, as a later window
    with pytest.raises(BrokenContract, match="out of order or twice"):
        client.window(1)
    client.end()


def test_constants_leave_room_for_slow_machines() -> None:
    assert client_module._MAX_SILENCE_S >= 20
