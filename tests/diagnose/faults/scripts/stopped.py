"""Computes; whoever tests it stops it, by a signal or by a debugger."""

print("ready", flush=True)
n = 0
while True:
    n += 1
