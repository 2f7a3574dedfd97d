"""Screens of a file in the inbox: one line before it, its steps, and its closing line."""

import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, TextIO

from headway.base.errors import Refusal
from headway.base.units import count, plural, seconds
from headway.supervise.progress import Aim
from headway.supervise.screen import Screen
from headway.ui.output import columns, text_width
from headway.ui.queued_stream import queued
from headway.ui.screens import Plain, Quiet, make_screen
from headway.ui.text_layout import MARKS, printable

if TYPE_CHECKING:
    from headway.runs.plan import Plan
    from headway.runs.receipt import Receipt


class FileLines(Plain):
    """Lines about the training of one file.

    Args:
        stdout: for output.
        stderr: of this process.
        name: of the file.
        num_waiting: files that wait behind it.
        width: of text.
        verbose: show the whole plan and the whole receipt, too.
        logging_steps: a line every N steps.
    """

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        name: str,
        num_waiting: int,
        *,
        width: int,
        verbose: bool,
        logging_steps: int | None,
    ) -> None:
        super().__init__(
            stdout,
            stderr,
            width=width,
            verbose=verbose,
            logging_steps=logging_steps,
            clock=time.monotonic,
        )
        self._name = name
        self._num_waiting = num_waiting

    def plan(self, plan: "Plan") -> None:
        """Say what this file will do."""
        steps, time_s = plan.steps, plan.time.seconds
        if self._verbose:
            super().plan(plan)
        self._progress.aim = Aim(steps.first, steps.num, time_s)
        self.say(file_line(self._name, steps.num, steps.last, time_s, self._num_waiting))
        for finding in () if self._verbose else plan.findings:
            if finding.kind in ("warning", "adjusted"):
                self.say(MARKS[finding.kind] + finding.what)

    def refusal(self, refusal: Refusal) -> None:
        """Nothing: the daemon says what becomes of the file."""

    def receipt(self, receipt: "Receipt") -> None:
        """Say the closing line."""
        if self._verbose:
            super().receipt(receipt)
        else:
            self.say(receipt.line)


class FileQuiet(Quiet):
    """Only the closing line."""

    def refusal(self, refusal: Refusal) -> None:
        """Nothing: the daemon says what becomes of the file."""


def file_line(
    name: str, num_steps: int, last: int, duration_s: float | None, num_waiting: int
) -> str:
    """What a file will do: 'b.jsonl trains 2 steps, reaching global step 4; 1 file waiting'."""
    about = f", about {seconds(duration_s)}" if duration_s is not None else ""
    wait = (
        plural(num_waiting, "file waiting", "files waiting") if num_waiting else "no files waiting"
    )
    steps = f"{plural(num_steps, 'step')}, reaching global step {count(last)}"
    return f"{printable(name)} trains {steps}{about}; {wait}"


def make_file_screen(
    name: str,
    num_waiting: int,
    *,
    quiet: bool,
    json: bool,
    verbose: bool,
    logging_steps: int | None,
    environ: Mapping[str, str] = os.environ,
) -> Screen:
    """The screen of a file: lines, also on a terminal, since the daemon writes there too.

    Args:
        name: of the file.
        num_waiting: files that wait behind it.
        quiet: only closing lines.
        json: one object per line, as for any run.
        verbose: the whole plan and receipt.
        logging_steps: a line every N steps.
        environ: COLUMNS.
    """
    if json:
        return make_screen(sys.stdout, sys.stderr, json=True, environ=environ)
    width = text_width(columns(sys.stdout, environ))
    stdout, stderr = queued(sys.stdout, sys.stderr)
    if quiet:
        return FileQuiet(stdout, stderr, width=width, clock=time.monotonic)
    return FileLines(
        stdout,
        stderr,
        name,
        num_waiting,
        width=width,
        verbose=verbose,
        logging_steps=logging_steps,
    )
