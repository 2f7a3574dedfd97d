"""The process that fills a queue was killed; nobody tells the one that reads it."""

import multiprocessing
import os
import signal


def produce(rows: "multiprocessing.Queue[int]") -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def next_batch(rows: "multiprocessing.Queue[int]") -> int:
    print("ready", flush=True)
    return rows.get()


if __name__ == "__main__":
    waiting: "multiprocessing.Queue[int]" = multiprocessing.Queue()
    multiprocessing.Process(target=produce, args=(waiting,), daemon=True).start()
    next_batch(waiting)
