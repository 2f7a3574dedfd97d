"""Odd answers of real servers end in a refusal by name, or are read for what they are."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from headway.base.errors import Refusal
from headway.base.network.retry import RetryPolicy
from headway.base.pulse import Pulse
from headway.data.sources import http
from headway.data.sources.source import Source

ROW = b'{"text": "A line of text."}\n'
ONCE = RetryPolicy(max_attempts=1, stall_timeout_s=5.0)


@contextmanager
def serving(*lines: str, status: str = "200 OK") -> Iterator[str]:
    """A server that answers every request with these headers and a row, and hangs up."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "Connection: close", "", ""])
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(65536)
                    client.sendall(head.encode() + ROW)

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/data.jsonl"
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def read(address: str) -> bytes:
    source: Source = http.find(address, Pulse(), ONCE)
    return b"".join(http.chunks(source, Pulse(), retry=ONCE))


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: many",),
        ("Content-Length: -5",),
        ("Content-Length: " + "9" * 40,),
        ("Content-Length: 5", "Content-Length: 7"),
        ("Transfer-Encoding: chunked",),
    ],
)
def test_an_odd_length_is_refused_with_the_address(lines: tuple[str, ...]) -> None:
    with serving(*lines) as address, pytest.raises(Refusal) as caught:
        read(address)
    assert address in caught.value.what
    assert caught.value.have
    assert caught.value.remedies


@pytest.mark.parametrize("asked", ["nan", "inf", "-1", "soon", "9" * 400, "Mon, 99 Foo 2026"])
def test_an_odd_wait_is_none(asked: str) -> None:
    busy = serving(f"Retry-After: {asked}", status="503 Busy")
    with busy as address, pytest.raises(Refusal, match="503") as caught:
        read(address)
    assert "asks to wait" not in caught.value.have


@pytest.mark.parametrize("said", ["bytes ²-4/9", "bytes 7-4/9", "items 0-4/9", "", "bytes */nan"])
def test_an_odd_range_is_refused_with_the_address(said: str) -> None:
    part = serving(f"Content-Range: {said}", status="206 Partial Content")
    with part as address, pytest.raises(Refusal) as caught:
        read(address)
    assert address in caught.value.what


def test_a_missing_length_and_stamp_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as address:
        assert read(address) == ROW
