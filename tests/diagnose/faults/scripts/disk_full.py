"""Writes a checkpoint again and again, to a disk that is full."""

import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])


def save() -> None:
    said = False
    while True:
        try:
            (folder / "checkpoint.bin").write_bytes(b"x" * 1_000_000)
        except OSError:
            if not said:
                print("ready", flush=True)
            said = True
            time.sleep(0.5)


save()
