"""Outlet: where the command's output goes, and the guard's own lines between it.

Every byte of the command is written as it came. A line of the guard never tears one of the
command's: on a terminal it stands below, for as long as nothing else is printed, and is removed
before the next byte; elsewhere it is printed after the end of a line.
"""

import errno
import os
import re
import select
import threading
import time
from collections.abc import Callable, Sequence

from headway.ui.text_layout import cut

OUT, ERR = 1, 2
_STYLE_END = re.compile(rb"(?:\x1b\[[0-9;]*m)+$")
_MOVES_UP = re.compile(rb"\x1b\[\d*[AFHf]|\x1bM|\x1b\[\?1049h|\x1b\[\?47h")
_FULL_SCREEN, _NORMAL_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"
_BLOCKED_S = 0.3  # that writing a piece takes if somebody waits for it
_UPS_KEPT = 20  # writes after the last one that moved the cursor up


class Outlet:
    """The two streams that a person or a program reads.

    Args:
        terminals: of `OUT` and `ERR`, those that are terminals.
        columns: of the terminal.
        takes_lines: whether the command reads whole lines from the terminal, not keys.
        quiet: whether the guard says nothing until the command has ended.
        together: those of `OUT` and `ERR` that lead to one place, as after 2>&1.
    """

    def __init__(
        self,
        terminals: frozenset[int],
        columns: Callable[[], int],
        takes_lines: Callable[[], bool] = lambda: True,
        *,
        quiet: bool = False,
        together: frozenset[int] = frozenset(),
    ) -> None:
        self._together = together or terminals
        self._terminals, self._columns, self._takes_lines = terminals, columns, takes_lines
        self._quiet = quiet
        self._lock = threading.RLock()
        self._last = {OUT: b"\n", ERR: b"\n"}  # the last bytes of each
        self._shown = b""  # what removes the line that is shown
        self._since_up = _UPS_KEPT
        self._is_full_screen = False
        self.problem: OSError | None = None  # why output could not be passed on
        self._blocked_since: float | None = None

    @property
    def on_terminal(self) -> bool:
        """Whether the guard's own lines go to a terminal."""
        return ERR in self._terminals

    @property
    def is_blocked(self) -> bool:
        """Whether nobody has taken the command's output for a while."""
        since_s = self._blocked_since
        return since_s is not None and time.monotonic() - since_s > _BLOCKED_S

    def pass_on(self, stream: int, data: bytes) -> bool:
        """Write bytes of the command.

        Returns:
            Whether somebody takes them: False if the reader has left or the disk is full.
        """
        with self._lock:
            if self._shown and stream in self._terminals:
                self._write(ERR, self._shown)
                self._shown = b""
            shares = self._together if stream in self._together else (stream,)
            self._last |= dict.fromkeys(shares, data[-64:])
            if stream in self._terminals:
                self._follow_cursor(data)
            self._blocked_since = time.monotonic()
            taken = self._write(stream, data)
            self._blocked_since = None
            return taken

    def _follow_cursor(self, data: bytes) -> None:
        self._since_up = 0 if _MOVES_UP.search(data) else self._since_up + 1
        if _FULL_SCREEN in data or _NORMAL_SCREEN in data:
            self._is_full_screen = data.rfind(_FULL_SCREEN) > data.rfind(_NORMAL_SCREEN)

    @property
    def _is_drawn_on(self) -> bool:
        """Whether the command draws on more than one line: nothing may stand below."""
        return self._is_full_screen or self._since_up < _UPS_KEPT or not self._takes_lines()

    @property
    def _at_line_start(self) -> bool:
        last = _STYLE_END.sub(b"", self._last[ERR])
        return last.endswith(b"\n") or not last

    def show(self, text: str) -> bool:
        """Show a line until the command prints something; elsewhere than on a terminal, print it.

        Returns:
            Whether it was shown.
        """
        if self._quiet or not self._lock.acquire(timeout=1.0):
            return False  # somebody holds the terminal: nothing can be shown
        try:
            if not self.on_terminal:
                return self._print([text])
            if self._is_drawn_on:
                return False
            line = f"\x1b[2m{cut(text, max(self._columns() - 1, 20))}\x1b[0m".encode()
            before, self._shown = self._shown, b""
            if self._at_line_start:
                self._write(ERR, b"\r\x1b[2K" + line + b"\r")
                self._shown = b"\r\x1b[2K"
            else:
                # A row below, made if there is none; the cursor returns to where it was.
                make = b"" if before else b"\x1bD\x1b[A"
                self._write(ERR, make + b"\x1b7\x1b[B\r\x1b[2K" + line + b"\x1b8")
                self._shown = b"\x1b7\x1b[B\r\x1b[2K\x1b8"
            return True
        finally:
            self._lock.release()

    def clear(self) -> None:
        """Remove the line that is shown."""
        with self._lock:
            if self._shown:
                self._write(ERR, self._shown)
                self._shown = b""

    def say(self, lines: Sequence[str], *, last: bool = False) -> None:
        """Print lines that stay, on standard error.

        Args:
            lines: to print.
            last: whether to print them even if the guard is to be quiet.
        """
        if (self._quiet and not last) or not self._lock.acquire(timeout=2.0):
            return
        try:
            self.clear()
            self._print(lines)
        finally:
            self._lock.release()

    def _print(self, lines: Sequence[str]) -> bool:
        end = "\r\n" if self.on_terminal else "\n"
        begin = "" if self._at_line_start else end
        text = begin + "".join(f"{line}{end}" for line in lines)
        # Streams that lead to one place are both at the start of a line now.
        for stream in self._together if ERR in self._together else (ERR,):
            self._last[stream] = b"\n"
        return self._write(ERR, text.encode(errors="replace"))

    def _write(self, stream: int, data: bytes) -> bool:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(stream, rest) :]
            except BlockingIOError:  # somebody else made it so
                select.select((), (stream,), (), 1.0)
            except OSError as error:
                if error.errno != errno.EPIPE:
                    self.problem = error
                return False
        return True
