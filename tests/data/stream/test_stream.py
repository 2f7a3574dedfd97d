"""Streams: the same rows from any cursor, each record once per epoch, everything counted."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.base.errors import DataRefused
from headway.base.pulse import Pulse
from headway.data.examples.maker import ExampleMaker, ExampleOptions
from headway.data.examples.tokenizer import byte_level
from headway.data.formats import splits
from headway.data.formats.records import RejectReason
from headway.data.formats.splits import SourceParts
from headway.data.order import MASK_64_BIT, row_hash
from headway.data.sources.find import find_sources
from headway.data.stream.cursor import HELD_OUT, StreamCursor, StreamPosition
from headway.data.stream.stream import Stream, StreamSpec
from headway.data.stream.window import Window

OPTIONS = ExampleOptions(None, 300, None, True)
SPEC = StreamSpec("text", 16, "cut", 4, 1, 0, 7, 0.5, "uint16")
WORDS = byte_level()
END = WORDS.end_id


def streaming(*paths: Path, **spec: Any) -> Stream:
    if "window_rows" in spec:
        spec |= {"batch_size": spec.pop("window_rows"), "steps_per_window": 1}
    made = replace(SPEC, **spec)
    maker = ExampleMaker(OPTIONS, byte_level(), made.kind, lambda _: None)
    return Stream(
        SourceParts(find_sources([str(path) for path in paths]), Pulse()), maker, made, Pulse()
    )


def rows_in(window: Window) -> list[list[tuple[list[int], list[bool] | None]]]:
    return [
        [
            (s.ids.tolist(), None if s.trained is None else s.trained.tolist())
            for s in window.segments(row)
        ]
        for row in range(len(window))
    ]


def jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def chat(question: str, answer: str) -> str:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns}) + "\n"


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PART_BYTES", 256)


class _StopError(Exception):
    pass


def windows_of(
    stream: Stream,
    num: int,
    cursor: StreamCursor = StreamCursor(),  # noqa: B008 - frozen
    held_out: Mapping[int, int] | None = None,
) -> list[Window]:
    """The next windows."""
    windows: list[Window] = []

    def take(window: Window) -> None:
        windows.append(window)
        if len(windows) == num:
            raise _StopError

    if num:
        with pytest.raises(_StopError):
            stream.run(cursor, held_out or {}, take)
    return windows


# ---- rows ------------------------------------------------------------------------------------


def windows_until(stream: Stream, epoch: int) -> list[Window]:
    """The windows of all epochs before one."""
    windows: list[Window] = []

    def take(window: Window) -> None:
        if window.facts.epoch == epoch:
            raise _StopError
        windows.append(window)

    with pytest.raises(_StopError):
        stream.run(StreamCursor(), {}, take)
    return windows


def one_epoch(stream: Stream, epoch: int) -> list[Window]:
    """The windows of an epoch."""
    return [w for w in windows_until(stream, epoch + 1) if w.facts.epoch == epoch]


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_an_epoch_of_text_holds_every_target_once_and_its_rest_is_a_short_row(
    epoch: int, tmp_path: Path
) -> None:
    texts = [f"document {number} " * (1 + number % 7) for number in range(60)]
    stream = streaming(
        jsonl(tmp_path / "a.jsonl", texts), max_length=8, batch_size=3, steps_per_window=4
    )
    targets: Counter[tuple[int, int]] = Counter()
    wanted: Counter[tuple[int, int]] = Counter()
    for text in texts:
        ids = [*WORDS.encode([text])[0].tolist(), END]
        wanted.update(pairwise(ids))
    total = sum(wanted.values())
    windows = one_epoch(stream, epoch)
    assert [len(window) for window in windows[:-1]] == [12] * (len(windows) - 1)
    lengths = []
    for window in windows:
        for row in rows_in(window):
            lengths.append(sum(len(ids) - 1 for ids, _ in row))
            for ids, _ in row:
                targets.update(pairwise(ids))
    assert targets == wanted
    assert lengths == [8] * (total // 8) + [total % 8] * (total % 8 > 0)
    assert [window.facts.has_short for window in windows[:-1]] == [False] * (len(windows) - 1)
    assert windows[-1].facts.has_short is (total % 8 > 0)
    assert windows[-1].facts.after.position == StreamPosition(epoch + 1)


@pytest.mark.parametrize("kind", ["text", "conversations"])
@pytest.mark.parametrize(
    ("num", "max_length", "batch_size", "steps_per_window"),
    [(1, 600, 3, 2), (5, 7, 1, 1), (9, 600, 4, 1), (12, 16, 2, 3), (10, 600, 5, 2), (14, 7, 9, 4)],
)
def test_every_record_is_in_each_epoch_once_whatever_the_windows(
    num: int, max_length: int, batch_size: int, steps_per_window: int, kind: str, tmp_path: Path
) -> None:
    """Counted by content: each record has a character of its own."""
    path = tmp_path / "a.jsonl"
    letters = "".join(chr(0x4E00 + number) for number in range(num))
    if kind == "text":
        jsonl(path, list(letters))
    else:
        path.write_text("".join(chat("q", letter) for letter in letters))
    length = max_length if kind == "text" else 600
    shape = {"batch_size": batch_size, "steps_per_window": steps_per_window}
    epochs = [[], [], []]
    for window in windows_until(streaming(path, kind=kind, max_length=length, **shape), 3):
        epochs[window.facts.epoch].append(window)
    for epoch, windows in enumerate(epochs):
        rows = [row for window in windows for row in rows_in(window)]
        targets = [token for row in rows for ids, _ in row for token in ids[1:]]
        found = Counter(c for c in WORDS.decode(targets) if "\u4e00" <= c < "\u9fff")
        if kind == "conversations":
            assert found == Counter(letters)
        else:  # the first byte of a document is no target
            assert (len(targets), Counter(targets)[END]) == (3 * num, num)
        before, after = windows[0].facts.before, windows[-1].facts.after
        assert after.read == num * (epoch + 1)
        known = sum(map(len, epochs[0])) if epoch else 0
        assert (before.epoch_rows, before.first_epoch_rows) == (0, known)
        assert not any(window.repeats(None) for window in windows)


def test_counts_and_sums_of_a_cursor_are_those_of_the_rows_before_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(chat("q", f"{number}") for number in range(46)))
    stream = streaming(path, kind="conversations", max_length=600, batch_size=8, steps_per_window=2)
    windows = windows_of(stream, 6)
    assert [len(window) for window in windows] == [16, 16, 14] * 2
    assert [window.facts.after.steps for window in windows] == [2, 4, 6, 8, 10, 12]
    rows = row_sum = 0
    seen: set[int] = set()
    for window in windows:
        before, after = window.facts.before, window.facts.after
        assert (before.rows, before.row_sum) == (rows, row_sum)
        rows, row_sum = (
            rows + len(window),
            row_sum + row_hash(window.identities_R, window.facts.epoch),
        )
        row_sum &= MASK_64_BIT
        assert (after.rows, after.row_sum) == (rows, row_sum)
        seen |= set(window.identities_R.tolist())
        order = window.order(7, 8)
        places = np.concatenate([order.places(step) for step in range(order.num_steps)])
        assert sorted(places.tolist()) == list(range(len(window)))
    assert len(seen) == 92  # an epoch's rows have numbers of their own
    assert windows[-1].facts.after.distinct_rows == 46
    assert windows[0].facts.after.distinct_rows == 16


def test_rows_that_come_a_second_time_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(chat("q", f"{number}") for number in range(46)))
    stream = streaming(path, kind="conversations", max_length=600, window_rows=10)
    first, second = windows_of(stream, 2)
    assert not second.repeats(first.last_origin())
    assert first.repeats(first.last_origin())
    twice = replace(first, origins_R4=np.repeat(first.origins_R4[:5], 2, axis=0))
    assert twice.repeats(None)


def test_an_epoch_without_a_row_is_refused_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(chat("a long question " * 9, "ho") * 20)
    stream = streaming(path, kind="conversations", max_length=64, max_rejected=1.0)
    with pytest.raises(DataRefused, match="none of 20 rows can be trained on"):
        windows_of(stream, 1)


def test_holding_out_every_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(chat("q", f"{number}") for number in range(9)))
    stream = streaming(path, kind="conversations", max_length=600, held_out=12)
    with pytest.raises(DataRefused, match="too few rows to hold 12 out"):
        stream.held_out()
    stream = streaming(path, kind="conversations", max_length=600, held_out=9)
    first = stream.held_out()
    with pytest.raises(DataRefused, match="too few rows to hold 9 out"):
        stream.run(first.facts.after, first.facts.units, lambda _: None)


def test_a_conversation_is_a_row_up_to_its_last_trained_token(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(chat("hi", "ho") * 5 + chat("hi", "a long answer " * 9) * 5)
    stream = streaming(path, kind="conversations", max_length=64, window_rows=10)
    (window,) = windows_of(stream, 1)
    assert window.facts.after.truncated == 5
    for row in range(10):
        ((ids, trained),) = rows_in(window)[row]
        assert len(ids) <= 64
        assert len(trained) == len(ids) - 1
        assert trained[-1]


def test_an_answer_that_is_cut_away_whole_is_rejected_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(chat("a", "b") * 20 + chat("a long question " * 9, "ho") + chat("a", "b") * 20)
    stream = streaming(path, kind="conversations", max_length=64, window_rows=40)
    (window,) = windows_of(stream, 1)
    (rejected,) = window.facts.rejected
    assert (rejected.line, rejected.reason) == (21, RejectReason.NO_ANSWER_LEFT)
    assert window.facts.after.read == 41
    assert window.facts.after.rejected == {RejectReason.NO_ANSWER_LEFT: 1}


def test_d06_a_bad_row_is_reported_with_its_line_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": "good " * 5})] * 50
    for line in (7, 23, 49):
        rows[line - 1] = "{not json"
    path.write_text("\n".join(rows) + "\n")
    stream = streaming(path, max_length=8, window_rows=47 * 25 // 8)
    (window,) = windows_of(stream, 1)
    found = {(one.file, one.line, one.reason) for one in window.facts.rejected}
    assert found == {(str(path), line, "not JSON") for line in (7, 23, 49)}


def test_too_many_bad_records_end_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text((json.dumps({"text": "good " * 9}) + "\n{bad\n") * 200)
    with pytest.raises(DataRefused, match="cannot be trained on"):
        windows_of(streaming(path, max_rejected=0.2), 1000)


def test_sources_without_a_record_end_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n" * 900)
    with pytest.raises(DataRefused):
        windows_of(streaming(path), 1)


# ---- held out --------------------------------------------------------------------------------


@given(held_out=st.integers(1, 30), kind=st.sampled_from(["text", "conversations"]))
@settings(max_examples=10, deadline=None)
def test_what_is_held_out_is_never_trained_in_any_epoch(
    held_out: int, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("held") / "a.jsonl"
    if kind == "text":
        jsonl(path, [chr(0x4E00 + number) * 9 for number in range(80)])
    else:
        path.write_text("".join(chat("q", chr(0x4E00 + number) * 2) for number in range(80)))
    stream = streaming(path, kind=kind, held_out=held_out, max_length=64, window_rows=5)
    first = stream.held_out()
    assert len(first) == held_out
    assert first.facts.after.window == 0
    assert HELD_OUT == -1
    hidden = {c for row in rows_in(first) for ids, _ in row for c in characters(ids)}
    assert hidden
    windows = windows_of(stream, 30, first.facts.after, first.facts.units)
    seen = Counter(
        c
        for window in windows
        for row in rows_in(window)
        for ids, _ in row
        for c in characters(ids)
    )
    assert not hidden & seen.keys()
    assert len(seen) >= 79 - len(hidden)


def characters(ids: list[int]) -> set[str]:
    """The whole Chinese characters in some byte-level tokens."""
    return {c for c in WORDS.decode(ids) if "\u4e00" <= c < "\u9fff"}


# ---- from anywhere on ------------------------------------------------------------------------

TEXTS = st.lists(st.text(alphabet="ab \n", min_size=1, max_size=60), min_size=3, max_size=40)


@given(
    texts=TEXTS,
    bad=st.lists(st.integers(0, 39), max_size=4),
    num_files=st.integers(1, 3),
    max_length=st.integers(2, 40),
    window_rows=st.integers(1, 9),
    stop=st.integers(0, 30),
    kind=st.sampled_from(["text", "conversations"]),
)
@settings(max_examples=60, deadline=None)
def test_a_stream_continues_from_any_window_with_the_same_rows_and_counts(
    texts: list[str],
    bad: list[int],
    num_files: int,
    max_length: int,
    window_rows: int,
    stop: int,
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("stream")
    rows = [json.dumps({"text": t + "."}) + "\n" if kind == "text" else chat(t, t) for t in texts]
    for line in bad:
        if 0 < line < len(rows):
            rows[line] = "{half\n"
    for number in range(num_files):
        (folder / f"{number}.jsonl").write_text("".join(rows[number::num_files]))
    length = max_length if kind == "text" else 512
    stream = streaming(
        folder, kind=kind, max_length=length, window_rows=window_rows, max_rejected=1.0
    )
    windows = windows_of(stream, stop + 3)
    before = windows[stop - 1].facts.after if stop else StreamCursor()
    again = windows_of(stream, 3, before)
    assert [rows_in(w) for w in again] == [rows_in(w) for w in windows[stop:]]
    assert [w.facts for w in again] == [w.facts for w in windows[stop:]]
    for window in windows:
        after = window.facts.after
        assert after.num_rejected <= after.read


def test_200_random_stops_lose_and_repeat_no_row(tmp_path: Path) -> None:
    texts = [f"{number:04d} " * (1 + number % 11) for number in range(300)]
    stream = streaming(jsonl(tmp_path / "a.jsonl", texts), max_length=20, window_rows=3)
    twin = [rows_in(window) for window in windows_of(stream, 260)]
    draws = np.random.default_rng(1)
    cursor, got = StreamCursor(), []
    for _ in range(200):
        windows = windows_of(stream, int(draws.integers(1, 3)), cursor)
        got += [rows_in(window) for window in windows]
        cursor = windows[-1].facts.after
    assert got[:260] == twin[: len(got)]
    assert cursor.window == len(got) >= 200
