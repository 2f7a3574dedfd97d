"""Reads a stream that comes a few bytes at a time."""

import os
import socket
import sys
import time
import urllib.request


def serve() -> None:
    connection, _ = server.accept()
    connection.recv(10_000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b"x")
        time.sleep(0.3)


def read_rows() -> None:
    stream = urllib.request.urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/rows.jsonl")
    while True:
        stream.read(1)
        print("ready", flush=True)
        stream.readline()


server = socket.create_server(("127.0.0.1", 0))
if len(sys.argv) < 2 and os.fork() == 0:
    serve()
read_rows()
