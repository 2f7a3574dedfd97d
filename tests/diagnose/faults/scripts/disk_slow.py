"""Writes to a disk, again and again, until it takes nothing more."""

import os
import sys

file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)


def save() -> None:
    print("ready", flush=True)
    while True:
        os.pwrite(file, b"x" * 10_000, 0)
        os.fsync(file)


save()
