"""Asks for a connection that nobody accepts: the queue of the server is full."""

import socket

server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen(0)
others = []
for _ in range(4):
    other = socket.socket()
    other.setblocking(False)
    other.connect_ex(server.getsockname())
    others.append(other)


def download() -> None:
    print("ready", flush=True)
    socket.socket().connect(server.getsockname())


while True:
    download()
