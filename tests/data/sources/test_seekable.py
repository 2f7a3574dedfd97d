"""A seekable file over a remote source reads what a local file would, in few requests."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.data.sources.seekable import seekable_file
from headway.data.sources.source import Chunks, Source

CONTENT = bytes(n % 251 for n in range(200_000))


class Server:
    """Serves ranges of some content in small pieces, and notes what was requested."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.requests: list[tuple[int, int]] = []

    def __call__(self, begin: int, end: int) -> Chunks:
        self.requests.append((begin, end))
        for at in range(begin, end, 1000):
            yield self.content[at : min(at + 1000, end)]


def opened(server: Server) -> io.BufferedReader:
    return seekable_file(Source("https://h/a", None, len(server.content)), server)


@given(
    st.lists(st.tuples(st.integers(0, 220_000), st.integers(0, 100_000)), min_size=1, max_size=8)
)
def test_it_reads_what_a_local_file_reads(steps: list[tuple[int, int]]) -> None:
    remote, local = opened(Server()), io.BytesIO(CONTENT)
    for at, num_bytes in steps:
        assert remote.seek(at) == local.seek(at)
        assert remote.read(num_bytes) == local.read(num_bytes)
        assert remote.tell() == local.tell()


@pytest.mark.parametrize(
    ("offset", "whence", "at"),
    [(-8, io.SEEK_END, 199_992), (0, io.SEEK_END, 200_000), (5, io.SEEK_CUR, 15)],
)
def test_positions_count_from_the_beginning_the_end_or_the_current_one(
    offset: int, whence: int, at: int
) -> None:
    file = opened(Server())
    file.seek(10)
    assert file.seek(offset, whence) == at
    assert file.read() == CONTENT[at:]


def test_nothing_is_requested_before_it_is_read_nor_past_the_end() -> None:
    server = Server()
    file = opened(server)
    file.seek(0, io.SEEK_END)
    assert file.read(10) == b""
    assert server.requests == []
    file.seek(-4, io.SEEK_END)
    assert file.read(10) == CONTENT[-4:]
    assert server.requests == [(199_996, 200_000)]


def test_small_reads_in_a_row_share_a_request() -> None:
    server = Server()
    file = opened(server)
    assert b"".join(file.read(10) for _ in range(1000)) == CONTENT[:10_000]
    assert len(server.requests) == 1


def test_an_empty_file_is_empty() -> None:
    assert opened(Server(b"")).read() == b""
