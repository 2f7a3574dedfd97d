import errno
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.ui.output import Lines, Silence, columns, encodable, text_width


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Flushed(io.StringIO):
    """What a reader has: everything up to the last flush."""

    had = ""

    def flush(self) -> None:
        self.had = self.getvalue()


class Broken(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


class Full(io.StringIO):
    """A log on a disk that is full: writes are buffered, the flush fails."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        raise OSError(errno.ENOSPC, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


# -- silence ---------------------------------------------------------------------------------------


def test_the_longest_silence_is_kept() -> None:
    clock = Clock()
    silence = Silence(clock)
    for pause_s in (1.0, 7.0, 2.0):
        clock.now_s += pause_s
        silence.end()
    assert silence.age_s() == 0
    assert silence.longest_s == 7


def test_the_current_silence_counts_too() -> None:
    clock = Clock()
    silence = Silence(clock)
    clock.now_s += 2
    silence.end()
    clock.now_s += 9
    assert silence.age_s() == 9
    assert silence.longest_s == 9


# -- lines -----------------------------------------------------------------------------------------


def test_lines_are_written_whole_and_at_once() -> None:
    clock, stream = Clock(), Flushed()
    lines = Lines(stream, Silence(clock))
    clock.now_s += 3
    lines.write("one", "two")
    assert stream.had == "one\ntwo\n"
    assert lines.silence.age_s() == 0


def test_writing_nothing_does_not_end_the_silence() -> None:
    clock = Clock()
    lines = Lines(io.StringIO(), Silence(clock))
    clock.now_s += 3
    lines.write()
    assert lines.silence.age_s() == 3


@pytest.mark.parametrize("stream", [closed, Broken, Full])
def test_a_stream_that_fails_is_given_up(stream: Callable[[], io.StringIO]) -> None:
    lines = Lines(stream(), Silence(Clock()))
    lines.write("one")
    assert lines.gone


def test_nothing_is_written_to_a_stream_that_was_given_up() -> None:
    stream = Full()
    lines = Lines(stream, Silence(Clock()))
    lines.write("one")
    lines.write("two")
    assert (stream.getvalue(), stream.flushes) == ("one\n", 1)


def test_one_stream_that_fails_leaves_the_other() -> None:
    silence, out = Silence(Clock()), io.StringIO()
    failed, working = Lines(closed(), silence), Lines(out, silence)
    failed.write("lost")
    working.write("kept")
    assert out.getvalue() == "kept\n"


def test_lines_keep_to_the_encoding_of_their_stream() -> None:
    raw = io.BytesIO()
    lines = Lines(io.TextIOWrapper(raw, encoding="ascii"), Silence(Clock()))
    lines.write("step 3/100 · loss 2.45")
    assert raw.getvalue() == b"step 3/100 - loss 2.45\n"
    assert not lines.gone


# -- widths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "width"), [("132", 132), ("1", 1), ("0", 80), ("", 80), ("-5", 80), ("wide", 80)]
)
def test_columns_of_the_environment_count_if_they_are_a_number(value: str, width: int) -> None:
    assert columns(io.StringIO(), {"COLUMNS": value}) == width


@pytest.mark.parametrize(("reported", "width"), [(57, 57), (0, 80)])
def test_without_columns_the_terminal_is_asked(
    reported: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((reported, 24)))
    with Path(os.devnull).open("w") as stream:
        assert columns(stream, {}) == width
        assert columns(stream, {"COLUMNS": "99"}) == 99


def test_what_is_no_terminal_has_80_columns() -> None:
    with Path(os.devnull).open("w") as stream:
        assert columns(stream, {}) == 80
    assert columns(stream, {}) == 80  # closed by now


@pytest.mark.parametrize(("wide", "width"), [(0, 40), (40, 40), (77, 77), (120, 120), (400, 120)])
def test_text_is_set_in_40_to_120_columns(wide: int, width: int) -> None:
    assert text_width(wide) == width


# -- encodings -------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", None])
def test_unicode_stays_as_it_is(encoding: str | None) -> None:
    assert encodable("±0.04 · 日本 ━─", encoding) == "±0.04 · 日本 ━─"


def test_our_symbols_have_ascii_substitutes_and_other_characters_a_question_mark() -> None:
    assert encodable("«a»↵ · ± … ━─ 日本", "ascii") == "<<a>>/ - +- ... =- ??"


def test_characters_that_the_encoding_has_are_kept() -> None:
    assert encodable("é ↵", "latin-1") == "é /"
