"""Reads through fsspec, whose loop of events waits for a server that stops in the middle."""

import os
import socket
import time

import fsspec


def serve() -> None:
    while True:
        connection, _ = server.accept()
        asked = connection.recv(10_000)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\nConnection: close\r\n\r\n"
        connection.sendall(head)
        if asked.startswith(b"GET"):
            connection.sendall(b"x" * 100)
            print("ready", flush=True)
            time.sleep(10_000)
        connection.close()


def read_rows() -> None:
    address = f"http://127.0.0.1:{server.getsockname()[1]}/rows.jsonl"
    with fsspec.open(address, block_size=0) as stream:
        stream.read()


server = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    serve()
read_rows()
