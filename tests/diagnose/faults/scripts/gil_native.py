"""Compiled code that waits and keeps the interpreter's lock."""

import ctypes
import threading
import time

library = ctypes.PyDLL(None)


def call_library() -> None:
    library.sleep(10_000)


print("ready", flush=True)
threading.Thread(target=call_library, name="bindings", daemon=True).start()
n = 0
while True:
    n += 1
    time.sleep(0.001)
