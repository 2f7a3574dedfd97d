"""A command on a terminal, typed on by a script: for tests."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def run_on_terminal(
    command: Sequence[str],
    script: Sequence[tuple[bytes, bytes | Callable[[int], object]]] = (),
    *,
    folder: Path,
    size: tuple[int, int] = (33, 77),
) -> tuple[bytes, int]:
    """Run a command with a new terminal; returns what appeared on it and the exit code.

    Args:
        command: to run.
        script: whenever the text on the left has appeared, what is typed, or a call with the
            terminal's descriptor.
        folder: to run it in.
        size: rows and columns.
    """
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    shown, at, waiting = b"", 0, list(script)
    until_s = time.monotonic() + 90
    while time.monotonic() < until_s:
        if not select.select([terminal], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:  # nobody has it open any more
            break
        shown += data
        if waiting and waiting[0][0] in shown[at:]:
            at = len(shown)
            act = waiting.pop(0)[1]
            if callable(act):
                act(terminal)
            else:
                os.write(terminal, act)
    os.close(terminal)
    if time.monotonic() >= until_s:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert not waiting, f"never appeared: {waiting[0][0]!r} in {shown!r}"
    return shown, os.waitstatus_to_exitcode(status)


def resize(rows: int, columns: int) -> Callable[[int], object]:
    """An act for a script: give the terminal another size."""
    size = struct.pack("HHHH", rows, columns, 0, 0)
    return lambda terminal: fcntl.ioctl(terminal, termios.TIOCSWINSZ, size)
