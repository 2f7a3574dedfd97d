"""Run screens: live, plain, quiet and JSON output, and the choice of one.

`make_screen` chooses once; code that follows a run only sees a `Screen`.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec

from headway.base.errors import Refusal, message_of
from headway.base.events import NAMES, LogEntry, StepDone, StopAsked
from headway.supervise.progress import Aim, Progress, Readings, Status
from headway.supervise.screen import Screen
from headway.ui.live import Live
from headway.ui.output import PATIENCE_S, Clock, Lines, Silence, columns, encodable, text_width
from headway.ui.queued_stream import queued
from headway.ui.show_plan import plan_lines
from headway.ui.show_receipt import receipt_lines
from headway.ui.show_run import news_lines, phase_line, refusal_lines, step_line
from headway.ui.styled import StyledLine
from headway.ui.text_layout import printable

if TYPE_CHECKING:  # these modules are slow to import, and the first line must not wait
    from headway.runs.plan import Plan
    from headway.runs.receipt import Receipt

LINE_S = 9.5  # a plain line at least this often: ten seconds, with a margin for a slow caller


class Plain:
    """Lines for logs and pipes: phases, the requested steps, and one line at least every 10 s."""

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        *,
        width: int,
        verbose: bool,
        logging_steps: int | None,
        clock: Clock,
    ) -> None:
        self.silence = Silence(clock)
        self._out, self._err = Lines(stdout, self.silence), Lines(stderr, self.silence)
        self._width = width
        self._verbose = verbose
        self._logging_steps = logging_steps
        self._progress = Progress()  # separate, so that every step that is due gets its own line
        self._status: Status | None = None
        self._phases: set[str] = set()  # phases already printed
        self._stops: set[str] = set()  # who asked
        self._shown_step = 0

    @property
    def max_silence(self) -> float:
        """See `Screen`."""
        return self.silence.longest_s

    def say(self, line: str) -> None:
        """See `Screen`."""
        self._out.write(printable(line), last=True)

    def status(self, status: Status) -> None:
        """Print a new phase, or a line if none was printed for a while."""
        self._status = status
        if status.ended:
            return
        if status.phase not in self._phases:
            self._phases.add(status.phase)
            self._out.write(status.phase)
        elif self.silence.age_s() >= LINE_S and not self._out.is_behind:
            stepped = status.step != self._shown_step and status.state == "training"
            self._out.write(step_line(status) if stepped else phase_line(status))
            self._shown_step = status.step

    def plan(self, plan: "Plan") -> None:
        """See `Screen`."""
        self._progress.aim = Aim(plan.steps.first, plan.steps.num, plan.time.seconds)
        lines = plan_lines(plan, self._width, verbose=self._verbose)
        self._out.write(*_texts(lines), "")

    def event(self, entry: LogEntry) -> None:
        """See `Screen`. Prints the first step, the last step and the requested ones."""
        self._progress.take(entry)
        match entry.event:
            case StepDone(step):
                if self._is_due(step):
                    self._step()
            case StopAsked(by) if by in self._stops:
                pass
            case event:
                if isinstance(event, StopAsked):  # the supervisor and the trainer both log it
                    self._stops.add(event.by)
                self._out.write(*_texts(news_lines(event, self._width)))

    def _is_due(self, step: int) -> bool:
        aim = self._progress.aim
        ends = self._shown_step == 0 or (aim is not None and step == aim.steps)
        return ends or (self._logging_steps is not None and step % self._logging_steps == 0)

    def _step(self) -> None:
        own = self._progress.status(Readings(), 0.0)
        if self._status:
            tokens = max(own.tokens, self._status.tokens)
            own = replace(own, skipped=self._status.skipped, tokens=tokens)
        self._out.write(step_line(own))
        self._shown_step = own.step

    def refusal(self, refusal: Refusal) -> None:
        """See `Screen`."""
        self._err.write(*_texts(refusal_lines(refusal, self._width)), last=True)

    def receipt(self, receipt: "Receipt") -> None:
        """See `Screen`."""
        # The closing line stays whole: logs are searched by line, not read on a narrow terminal.
        facts = _texts(receipt_lines(receipt, self._width))
        self._out.write("", *facts, "", receipt.line, last=True)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """See `Screen`."""
        self._out.drain(patience_s)
        self._err.drain(patience_s)


def _texts(lines: Sequence[StyledLine]) -> list[str]:
    return [line.text for line in lines]


class Quiet:
    """Only refusals and the closing line."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, width: int, clock: Clock) -> None:
        self.silence = Silence(clock)
        self._out, self._err = Lines(stdout, self.silence), Lines(stderr, self.silence)
        self._width = width

    @property
    def max_silence(self) -> float:
        """See `Screen`; as long as the run, as `--quiet` asks for."""
        return self.silence.longest_s

    def say(self, line: str) -> None:
        """Nothing."""

    def status(self, status: Status) -> None:
        """Nothing."""

    def plan(self, plan: "Plan") -> None:
        """Nothing."""

    def event(self, entry: LogEntry) -> None:
        """Nothing."""

    def refusal(self, refusal: Refusal) -> None:
        """See `Screen`."""
        self._err.write(*_texts(refusal_lines(refusal, self._width)), last=True)

    def receipt(self, receipt: "Receipt") -> None:
        """The closing line."""
        self._out.write(receipt.line, last=True)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """See `Screen`."""
        self._out.drain(patience_s)
        self._err.drain(patience_s)


class Json:
    """One JSON object per line for programs; text for people goes to standard error.

    Every line has `event`: `plan`, the events of events.jsonl, `status` after ten seconds without
    another line, `refused`, and finally `receipt`.

    Args:
        stdout: for programs.
        stderr: for people.
        width: of text for people.
        clock: seconds, monotonic.
        single: the output is to be one value: what is happening is shown only to people.
    """

    def __init__(
        self, stdout: TextIO, stderr: TextIO, *, width: int, clock: Clock, single: bool = False
    ) -> None:
        self.silence = Silence(clock)
        self._out = Lines(stdout, self.silence)
        self._err = Lines(stderr, Silence(clock))
        self._width = width
        self._single = single

    @property
    def max_silence(self) -> float:
        """See `Screen`."""
        return self.silence.longest_s

    def _write(self, event: str, value: object, *, last: bool = False, **head: object) -> None:
        fields = cast("dict[str, Any]", msgspec.to_builtins(value))
        self._out.write(msgspec.json.encode(head | {"event": event} | fields).decode(), last=last)

    def say(self, line: str) -> None:
        """See `Screen`."""
        self._err.write(printable(line), last=True)

    def status(self, status: Status) -> None:
        """See `Screen`."""
        if self._single:
            if self._err.silence.age_s() >= LINE_S and not self._err.is_behind:
                self._err.write(phase_line(status))
        elif self.silence.age_s() >= LINE_S and not self._out.is_behind:
            self._write("status", status)

    def plan(self, plan: "Plan") -> None:
        """See `Screen`."""
        self._write("plan", plan)

    def event(self, entry: LogEntry) -> None:
        """See `Screen`."""
        head: dict[str, Any] = {
            "at": entry.at,
            "t": entry.t,
            "attempt": entry.attempt,
            "rank": entry.rank,
        }
        self._write(NAMES[type(entry.event)], entry.event, **head)

    def refusal(self, refusal: Refusal) -> None:
        """See `Screen`."""
        self._write("refused", message_of(refusal), last=True)
        self._err.write(*_texts(refusal_lines(refusal, self._width)), last=True)

    def receipt(self, receipt: "Receipt") -> None:
        """See `Screen`."""
        self._write("receipt", receipt, last=True)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """See `Screen`."""
        self._out.drain(patience_s)
        self._err.drain(patience_s)


def make_screen(
    stdout: TextIO,
    stderr: TextIO,
    *,
    quiet: bool = False,
    json: bool = False,
    single: bool = False,
    verbose: bool = False,
    logging_steps: int | None = None,
    clock: Clock = time.monotonic,
    environ: Mapping[str, str] = os.environ,
) -> Screen:
    """The screen for where the output goes.

    Args:
        stdout: for output; the live view needs a terminal that can move its cursor and whose
            encoding has our symbols.
        stderr: for refusals.
        quiet: print only refusals and the closing line.
        json: print JSON lines for programs; takes precedence over `quiet`.
        single: with `json`, the caller prints one value, and nothing else is to be beside it.
        verbose: print the plan with every setting.
        logging_steps: without a terminal, print a line every N steps.
        clock: seconds, monotonic.
        environ: NO_COLOR, TERM, COLUMNS.
    """
    width = text_width(columns(stdout, environ))
    stdout, stderr = queued(stdout, stderr)
    if json:
        return Json(stdout, stderr, width=width, clock=clock, single=single)
    if quiet:
        return Quiet(stdout, stderr, width=width, clock=clock)
    moves = stdout.isatty() and environ.get("TERM", "") not in ("dumb", "")
    if moves and encodable("·━", stdout.encoding) == "·━":
        return Live(stdout, stderr, verbose=verbose, clock=clock, environ=environ)
    return Plain(
        stdout, stderr, width=width, verbose=verbose, logging_steps=logging_steps, clock=clock
    )
