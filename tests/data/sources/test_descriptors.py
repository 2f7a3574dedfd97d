"""Open descriptors are read where their owner left them, by the process that inherits them."""

import os
from pathlib import Path

import pytest

from headway.base.errors import UsageError
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.records import Record
from headway.data.sources.descriptors import descriptor_of, inherited, reads_standard_input
from headway.data.sources.find import find_sources


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("-", 0),
        ("/dev/stdin", 0),
        ("/dev/fd/0", 0),
        ("/proc/self/fd/0", 0),
        ("/dev/fd/63", 63),
        ("/proc/self/fd/11", 11),
        ("/dev/stdout", 1),
        ("/dev/fd/x", None),
        ("/dev/fd/1/2", None),
        ("/dev/null", None),
        ("dev/fd/3", None),
        ("notes.txt", None),
    ],
)
def test_a_descriptor_is_known_by_its_name(name: str, number: int | None) -> None:
    assert descriptor_of(name) == number
    assert reads_standard_input(["a.txt", name]) == (number == 0)


def test_only_what_was_left_open_for_this_process_is_inherited() -> None:
    ours, theirs = os.pipe()
    os.set_inheritable(theirs, True)
    try:
        listed = [f"/dev/fd/{ours}", f"/dev/fd/{theirs}", "/dev/fd/987", "-", "/dev/stdin"]
        assert inherited(listed) == (theirs,)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_pipe_and_a_file_are_read_from_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("header\nwords\n")
    file = os.open(tmp_path / "a.txt", os.O_RDONLY)
    os.read(file, 7)
    out, into = os.pipe()
    os.write(into, b'{"text": "from a pipe"}\n')
    os.close(into)
    try:
        made: list[str | None] = []
        for number in (file, out):
            (source,) = find_sources([f"/dev/fd/{number}"])
            assert source.is_stream
            made += [r.text for r in read(source, lambda _: None, Pulse()) if isinstance(r, Record)]
        assert made == ["words\n", "from a pipe"]
        os.fstat(out)  # it is still open
    finally:
        os.close(file)
        os.close(out)


@pytest.mark.parametrize("name", ["/dev/fd/987", "/dev/stdout", "/dev/fd/2"])
def test_what_cannot_be_read_is_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"cannot read {name}"):
        find_sources([name])
