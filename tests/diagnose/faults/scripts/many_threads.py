"""Sixteen threads that compute, with the interpreter's lock released."""

import hashlib
import threading

data = b"x" * 5_000_000


def digest() -> None:
    while True:
        hashlib.sha256(data)


threads = [threading.Thread(target=digest) for _ in range(16)]
for thread in threads:
    thread.start()
print("ready", flush=True)
threads[0].join()
