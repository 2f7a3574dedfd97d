"""A debugger that holds a process: PTRACE_ATTACH, and nothing after it."""

import ctypes
import sys
import time

ctypes.CDLL(None, use_errno=True).ptrace(16, int(sys.argv[1]), None, None)
print("ready", flush=True)
time.sleep(10_000)
