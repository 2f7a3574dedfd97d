"""Spinner: one-line progress indicator.

On a terminal the line is updated in place and erased at the end; elsewhere a line is printed
every two seconds.
"""

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from headway.base.pulse import Pulse, PulseReading, read_pulse
from headway.supervise.live.runtime_folder import LiveFolder
from headway.supervise.progress import Progress, Readings
from headway.ui.output import columns
from headway.ui.show_run import phase_line
from headway.ui.text_layout import clock

_POLL_S = 0.1
_FIRST_S = 0.8  # work that ends sooner needs no line
_LINE_S = 1.8  # between two lines without a terminal


@contextmanager
def show_progress(screen: TextIO, *, quiet: bool) -> Generator[Pulse]:
    """Show this process's own work; changes to the pulse appear within two seconds.

    Args:
        screen: a terminal for one line updated in place, or any stream for several lines.
        quiet: print nothing.
    """
    live = LiveFolder()
    path = live.path / "here.pulse"
    over = threading.Event()
    spinner = threading.Thread(target=_spin, args=(screen, path, over.wait), daemon=True)
    try:
        pulse = Pulse(path)
        if not quiet:
            spinner.start()
        yield pulse
    finally:
        over.set()
        if spinner.is_alive():
            spinner.join()
        live.remove()


def show_wait(
    screen: TextIO,
    pulse: Path,
    is_over: Callable[[PulseReading | None], bool],
    *,
    quiet: bool,
    sleep: Callable[[float], object] = time.sleep,
) -> None:
    """Show another process's work from its pulse until `is_over`.

    Args:
        screen: as for `show_progress`.
        pulse: the other process's pulse file.
        is_over: called ten times a second with the last reading, None before the first.
        quiet: wait without printing.
        sleep: takes seconds between two looks; may return early.
    """

    def wait(timeout_s: float) -> bool:
        if is_over(read_pulse(pulse)):
            return True
        sleep(timeout_s)
        return False

    if not quiet:
        _spin(screen, pulse, wait)
    while not wait(_POLL_S):
        pass


def _spin(screen: TextIO, path: Path, wait: Callable[[float], bool]) -> None:
    is_terminal = screen.isatty()
    began_s = printed_s = time.monotonic()
    has_printed = False
    try:
        while not wait(_POLL_S):
            now_s = time.monotonic()
            if now_s - began_s < _FIRST_S or (not is_terminal and now_s - printed_s < _LINE_S):
                continue
            reading = read_pulse(path)
            if reading is None:
                continue
            printed_s, has_printed = now_s, True
            status = Progress().status(Readings(workers=(reading,)), now_s)
            if is_terminal:
                line = phase_line(status, columns(screen, os.environ) - 1, clock)
                screen.write(f"\r\x1b[K{line}")
            else:
                screen.write(phase_line(status) + "\n")
            screen.flush()
    finally:  # Ctrl+C too
        if is_terminal and has_printed:
            screen.write("\r\x1b[K")
            screen.flush()
