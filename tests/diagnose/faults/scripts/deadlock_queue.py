"""The thread that fills a queue has ended with an error."""

import contextlib
import queue
import threading

batches: queue.Queue[int] = queue.Queue()


def produce() -> None:
    with contextlib.suppress(ValueError):
        batches.put(int("seven"))


threading.Thread(target=produce, name="producer", daemon=True).start()


def next_batch() -> int:
    print("ready", flush=True)
    return batches.get()


next_batch()
