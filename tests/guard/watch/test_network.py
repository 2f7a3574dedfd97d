"""Received bytes of connections, as the kernel counts them."""

import os
import socket

from headway.guard.watch.network import received_bytes


def test_what_a_connection_has_received_is_counted() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as reader,
        server.accept()[0] as writer,
    ):
        writer.sendall(b"x" * 12_345)
        while len(reader.recv(100_000, socket.MSG_PEEK)) < 12_345:
            pass
        found = received_bytes([os.getpid()])
        assert found is not None
        assert found[os.fstat(reader.fileno()).st_ino] == 12_345
        assert found[os.fstat(writer.fileno()).st_ino] == 0


def test_a_process_that_is_gone_has_none() -> None:
    assert received_bytes([2**22 + 1]) == {}
