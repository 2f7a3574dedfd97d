"""Asks a server of its own, which says nothing."""

import socket

server = socket.create_server(("127.0.0.1", 0))
connection = socket.create_connection(server.getsockname())


def ask_store() -> None:
    connection.sendall(b"get rank\n")
    print("ready", flush=True)
    connection.recv(100)


ask_store()
