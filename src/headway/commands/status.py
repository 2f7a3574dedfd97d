"""Look at runs from outside: status, runs, logs, and the one word that stops them."""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec

from headway.base.errors import Exit
from headway.base.events import EventReader, entry_json, read_events
from headway.base.lock import is_held
from headway.base.process import is_alive
from headway.runs.folder import find_run
from headway.supervise.live_jobs import all_statuses, find_status
from headway.ui.show_run import log_line, runs_table, status_lines


def status(run: str | None, output_dir: Path, *, json: bool) -> int:
    """What it is doing right now and since when."""
    found = find_status(run, output_dir)
    if json:
        print_json(found)
    else:
        _print(*status_lines(found, width()))
    return Exit.KEPT


def runs(output_dir: Path, *, json: bool) -> int:
    """What there is."""
    found = all_statuses(output_dir)
    if json:
        print_json(found)
    elif found:
        _print(*runs_table(found, width()))
    else:
        _print(f"no runs in {output_dir} yet; headway demo makes a first one")
    return Exit.KEPT


def logs(run: str | None, output_dir: Path, *, follow: bool, json: bool) -> int:
    """What happened, line by line."""
    folder = find_run(run, output_dir)
    if not follow:
        if json:
            sys.stdout.write(folder.events.read_text())
        else:
            _print(*map(log_line, read_events(folder.events)))
        return Exit.KEPT
    reader = EventReader(folder.events)
    while True:
        living = is_held(folder.lock)  # asked first: what a dead owner wrote is all there
        for entry in reader.new():
            _print(entry_json(entry).decode() if json else log_line(entry))
        if not living:
            return Exit.KEPT
        time.sleep(0.2)


def stop(run: str | None, output_dir: Path) -> int:
    """Save and stop it; waits until it has, and says so every second."""
    found = find_status(run, output_dir)
    if found.ended or not is_alive(found.pid):
        _print(f"{found.run} is not running")
        return Exit.KEPT
    os.kill(found.pid, signal.SIGTERM)
    _print(f"asked {found.run} (process {found.pid}) to save and stop")
    began_s = told_s = time.monotonic()
    while is_alive(found.pid):
        if time.monotonic() - told_s > 1.0:
            told_s = time.monotonic()
            _print(f"it is saving · {told_s - began_s:.0f} s")
        time.sleep(0.05)
    _print(f"{found.run} has stopped; the same command goes on with it")
    return Exit.KEPT


def width() -> int:
    """Columns to write in: the terminal's, between 40 and 120."""
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, 120))


def print_json(value: object) -> None:
    """One indented JSON value on standard output."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def _print(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
