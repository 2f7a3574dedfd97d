"""Waits for a file lock whose owner was killed: a child of it has inherited the open file."""

import fcntl
import os
import sys
import time

path = sys.argv[1]


def open_cache() -> None:
    with open(path, "w") as mine:  # noqa: PTH123
        print("ready", flush=True)
        fcntl.flock(mine, fcntl.LOCK_EX)


owner = os.fork()
if owner == 0:
    fcntl.flock(os.open(path, os.O_CREAT | os.O_WRONLY), fcntl.LOCK_EX)
    if os.fork() == 0:
        time.sleep(10_000)
    os._exit(1)
os.waitpid(owner, 0)
open_cache()
