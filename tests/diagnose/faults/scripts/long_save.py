"""A save that takes long and makes progress."""

import os
import sys

data = b"x" * 4_000_000


def save() -> None:
    while True:
        with open(sys.argv[1], "wb") as file:  # noqa: PTH123
            for _ in range(8):
                file.write(data)
            os.fsync(file.fileno())
        print("ready", flush=True)


save()
