"""A lock is taken twice, while a heartbeat goes on in another thread."""

import threading
import time

step_lock = threading.Lock()


def heartbeat() -> None:
    while True:
        time.sleep(0.05)


def train_step() -> None:
    step_lock.acquire()
    on_step_end()


def on_step_end() -> None:
    print("ready", flush=True)
    step_lock.acquire()


threading.Thread(target=heartbeat, name="heartbeat", daemon=True).start()
train_step()
