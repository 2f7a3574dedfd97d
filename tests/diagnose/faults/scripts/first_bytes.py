"""Asks for a stream; the server accepts, and sends nothing."""

import socket
import urllib.request

server = socket.create_server(("127.0.0.1", 0))


def open_stream() -> None:
    print("ready", flush=True)
    urllib.request.urlopen(f"http://127.0.0.1:{server.getsockname()[1]}/rows.jsonl")


open_stream()
