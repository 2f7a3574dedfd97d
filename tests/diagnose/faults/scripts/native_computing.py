"""Compiled code that computes with the interpreter's lock released, while the main thread joins."""

import hashlib
import threading


def digest() -> None:
    data = b"x" * 50_000_000
    while True:
        hashlib.sha256(data)


print("ready", flush=True)
thread = threading.Thread(target=digest, name="hasher")
thread.start()
thread.join()
