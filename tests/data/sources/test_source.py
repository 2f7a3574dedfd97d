"""A source as a value: what may be printed of it, and whether it can be read twice."""

from pathlib import Path

from headway.data.sources.source import STANDARD_INPUT, Source


def test_a_stream_is_what_cannot_be_read_twice() -> None:
    assert Source(STANDARD_INPUT, None).is_stream
    assert not Source("a.txt", Path("a.txt"), 3, stamp=(3, 1)).is_stream
    assert not Source("https://h/a", None, address="https://h/a").is_stream


def test_an_address_is_not_in_the_text_of_a_source() -> None:
    assert "secret" not in repr(Source("https://h/a", None, address="https://u:secret@h/a"))
