"""Lines of output: counted, sampled when there are too many, news told from redrawing."""

import pytest

from headway.guard.output_lines import MOST_RECORDS, OutputLines


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_lines_end_with_newlines_and_carriage_returns() -> None:
    lines = OutputLines()
    for piece in (b"one\ntw", b"o\r", b"\nstep 1/9 loss 3\r", b"step 2/9 loss 2", b"\r\n", b"rest"):
        lines.feed(piece)
    assert lines.num_lines == 4
    lines.finish()
    assert lines.num_lines == 5
    assert lines.head == ("one", "two", "step 1/9 loss 3", "step 2/9 loss 2", "rest")
    assert [record.step for record in lines.records] == [1, 2]


def test_two_streams_do_not_mix_their_lines() -> None:
    lines = OutputLines()
    lines.feed(b"loss ", 1)
    lines.feed(b"warning\n", 2)
    lines.feed(b"2.5\n", 1)
    assert lines.head == ("warning", "loss 2.5")


def test_what_is_only_drawn_again_is_no_news() -> None:
    clock = Clock()
    lines = OutputLines(clock)
    lines.feed(b"\r 45%|####      | 45/100 [00:12<00:15,  3.60it/s]")
    heard_s = lines.last_news_s
    clock.now_s += 30
    lines.feed(b"\r 45%|####      | 45/100 [00:42<00:51,  1.07it/s]")
    assert lines.last_output_s == clock.now_s
    assert lines.last_news_s == heard_s
    lines.feed(b"\r 46%|####      | 46/100 [00:42<00:51,  1.07it/s]")
    assert lines.last_news_s == clock.now_s


@pytest.mark.parametrize(
    "again",
    ["2026-11-30 03:2{}:01 waiting for the queue", "⠋⠙"[0] + " loading {}.5 s", "alive 10:0{}:00"],
)
def test_a_heartbeat_with_a_clock_is_no_news(again: str) -> None:
    clock = Clock()
    lines = OutputLines(clock)
    lines.feed(again.format(1).encode() + b"\n")
    heard_s = lines.last_news_s
    clock.now_s += 60
    lines.feed(again.format(2).encode() + b"\n")
    assert lines.last_news_s == heard_s


def test_more_lines_than_can_be_read_are_counted() -> None:
    clock = Clock()
    lines = OutputLines(clock)
    for number in range(100):
        lines.feed(b"".join(b"step %d\n" % (number * 1000 + n) for n in range(1000)))
    assert lines.num_lines == 100_000
    assert lines.num_unread == 100_000 - 2_000, "a burst is read"
    clock.now_s += 1
    lines.feed(b"step 7 loss 1.5\n")
    assert lines.records[-1].loss == 1.5


def test_the_first_and_the_last_records_are_kept() -> None:
    clock = Clock()
    lines = OutputLines(clock)
    for step in range(MOST_RECORDS + 500):
        clock.now_s += 1
        lines.feed(b"step %d loss 1.0\n" % step)
    assert len(lines.records) == MOST_RECORDS
    assert lines.records_left_out == 500
    assert (lines.records[0].step, lines.records[-1].step) == (0, MOST_RECORDS + 499)


def test_each_record_is_told_and_bars_are_kept_once_a_second() -> None:
    clock, told = Clock(), []
    lines = OutputLines(clock, told.append)
    for step in range(1, 10):
        clock.now_s += 0.1
        lines.feed(b" %d%%|#  | %d/10 [00:01<00:01, 1.0it/s]\r" % (step * 10, step))
    lines.feed(b"100%|###| 10/10 [00:01<00:00, 1.0it/s]\n")
    assert [record.step for record in told] == list(range(1, 11))
    assert [record.step for record in lines.records] == [1, 10]
