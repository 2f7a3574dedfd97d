"""Looks a name up; the name server, in a network of its own, takes questions and answers none."""

import socket

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))


def download() -> None:
    print("ready", flush=True)
    socket.getaddrinfo("models.example.org", 443)


download()
