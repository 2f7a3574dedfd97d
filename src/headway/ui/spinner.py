"""What this very process is doing, told while it lasts: a pulse of its own, and a thread's eye."""

import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from headway.base.pulse import Pulse, PulseReading, live_folder, read_pulse
from headway.base.units import count, seconds, size

_LOOK_S = 0.2
_SOON_S = 0.8  # what is over by then needs no line
_LINE_S = 1.8  # off a terminal, a line this often


@contextmanager
def telling(screen: TextIO, *, quiet: bool) -> Generator[Pulse]:
    """A pulse; whatever it says is on the screen within two seconds, and gone at the end.

    Args:
        screen: a terminal, where the line moves, or anything else, where there are more lines.
        quiet: say nothing.
    """
    folder = live_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"here-{os.getpid()}.pulse"
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(path, screen, over), daemon=True)
    try:
        pulse = Pulse(path)
        if not quiet:
            teller.start()
        yield pulse
    finally:
        over.set()
        if teller.is_alive():
            teller.join()
        path.unlink(missing_ok=True)


def _tell(path: Path, screen: TextIO, over: threading.Event) -> None:
    moving = screen.isatty()
    began_s = told_s = time.monotonic()
    shown = False
    while not over.wait(_LOOK_S):
        now_s = time.monotonic()
        if now_s - began_s < _SOON_S or (not moving and now_s - told_s < _LINE_S):
            continue
        reading = read_pulse(path)
        if reading is None:
            continue
        told_s, shown = now_s, True
        screen.write(f"\r\x1b[K{line_of(reading)}" if moving else f"{line_of(reading)}\n")
        screen.flush()
    if moving and shown:
        screen.write("\r\x1b[K")
        screen.flush()


def line_of(reading: PulseReading) -> str:
    """The phase, how far it is, and for how long."""
    shown = size if reading.unit == "bytes" else count
    unit = "" if reading.unit == "bytes" else f" {reading.unit}"
    far = f" · {shown(reading.done)} of {shown(reading.total)}{unit}" if reading.total else ""
    return f"{reading.phase}{far} · {seconds(time.monotonic() - reading.phase_since)}"
