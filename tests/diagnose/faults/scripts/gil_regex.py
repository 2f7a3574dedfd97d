"""A pattern that takes exponential time, in a thread; the training loop cannot go on."""

import re
import threading
import time


def clean(text: str) -> bool:
    return bool(re.match(r"(a?){40}a{40}", text))


print("ready", flush=True)
threading.Thread(target=clean, args=("a" * 40,), name="cleaner", daemon=True).start()
while True:
    time.sleep(0.01)
