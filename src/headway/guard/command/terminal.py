"""Terminal of a guarded command: a pty that behaves like the real one."""

import contextlib
import fcntl
import os
import signal
import struct
import termios
import tty
from typing import Any

_SIZE = struct.Struct("HHHH")  # rows, columns, and two in pixels


class Terminal:
    """A pty for the command, and the real terminal while bytes pass between the two.

    Args:
        real: descriptor of the terminal that a person sees.
        reads: whether what is typed goes to the command.
        shared: whether other programs write to the real terminal, as in a pipeline: then the real
            terminal keeps translating newlines, and the pty does not.

    Attributes:
        master: our end: what is written here was typed.
        slave: the command's end.
    """

    def __init__(self, real: int, *, reads: bool, shared: bool) -> None:
        self.real, self.reads = real, reads
        self._shared = shared
        self.master, self.slave = os.openpty()
        self._before: list[Any] = termios.tcgetattr(real)
        self._is_raw = False
        same = termios.tcgetattr(real)
        if shared:
            same[1] &= ~termios.OPOST
        termios.tcsetattr(self.slave, termios.TCSANOW, same)
        self.copy_size()

    def copy_size(self) -> None:
        """Give the pty the size of the real terminal; the command gets SIGWINCH if it changed."""
        with contextlib.suppress(OSError):
            found = fcntl.ioctl(self.real, termios.TIOCGWINSZ, bytes(_SIZE.size))
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, found)

    @property
    def is_raw(self) -> bool:
        """Whether what is typed reaches the command unchanged."""
        return self._is_raw

    @property
    def takes_lines(self) -> bool:
        """Whether the command reads whole lines, as most do, rather than keys, as editors do."""
        with contextlib.suppress(termios.error):
            return bool(termios.tcgetattr(self.slave)[3] & termios.ICANON)
        return True

    @property
    def echoes(self) -> bool:
        """Whether what is typed is shown."""
        with contextlib.suppress(termios.error):
            return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)
        return True

    def enter(self) -> None:
        """Let everything typed through, if we are in the foreground."""
        if self._is_raw or not self.reads or not self._in_foreground():
            return
        self._before = termios.tcgetattr(self.real)
        tty.setraw(self.real, termios.TCSADRAIN)
        if self._shared:
            mode = termios.tcgetattr(self.real)
            mode[1] |= self._before[1] & termios.OPOST
            termios.tcsetattr(self.real, termios.TCSADRAIN, mode)
        self._is_raw = True

    def leave(self) -> None:
        """Give the real terminal back as it was."""
        if self._is_raw:
            self._is_raw = False
            restore(self.real, self._before)

    def saved(self) -> list[Any]:
        """How the real terminal was."""
        return self._before

    def _in_foreground(self) -> bool:
        try:
            return os.tcgetpgrp(self.real) == os.getpgrp()
        except OSError:
            return False  # it is not the terminal of our session


def restore(real: int, mode: list[Any]) -> None:
    """Set a terminal's modes, from the background too; errors are ignored."""
    before = signal.getsignal(signal.SIGTTOU)
    with contextlib.suppress(OSError, termios.error, ValueError):
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        termios.tcsetattr(real, termios.TCSADRAIN, mode)
        signal.signal(signal.SIGTTOU, before)
