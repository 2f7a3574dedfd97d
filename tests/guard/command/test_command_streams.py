"""What a command gets for our streams: pipes where we write to files or pipes."""

import os
from collections.abc import Iterator

import pytest

from headway.guard.command.command_streams import CommandStreams


@pytest.fixture
def made(capfd: pytest.CaptureFixture[str]) -> Iterator[CommandStreams]:
    with capfd.disabled():
        pass
    found = CommandStreams.of_this_process(quiet=False)  # of pytest, which captures both
    yield found
    for descriptor in found.ours:
        os.close(descriptor)


def test_pipes_stand_for_files(made: CommandStreams) -> None:
    assert made.terminal is None
    assert made.restore is None
    assert sorted(made.sources.values()) == [1, 2], "kept apart"
    assert made.given[0] == 0, "standard input is passed on as it is"
    os.write(made.given[2], b"x")
    source = next(one for one, stream in made.sources.items() if stream == 2)
    assert os.read(source, 9) == b"x"
    made.close_given()
    assert os.read(source, 9) == b"", "nobody else holds the command's end"
