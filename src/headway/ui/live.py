"""Live terminal view while training: permanent lines above a few that are redrawn.

The moving lines are redrawn when they change, at most four times a second. The age of the phase
changes every second even if nothing else does. rich is imported at the first status, so that the
first line appears without waiting for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from headway.base.errors import Refusal
from headway.base.events import LogEntry, PhaseEntered, StepDone, StopAsked
from headway.supervise.progress import Status
from headway.ui.output import PATIENCE_S, Clock, Lines, Silence, columns, text_width
from headway.ui.show_plan import plan_lines
from headway.ui.show_receipt import closing_lines, receipt_lines
from headway.ui.show_run import (
    SILENT_S,
    news_lines,
    phase_line,
    refusal_lines,
    stall_lines,
    step_line,
)
from headway.ui.styled import Style, StyledLine, styled
from headway.ui.text_layout import bar, cells, clock, printable, spark

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live as Region
    from rich.text import Text

    from headway.runs.plan import Plan
    from headway.runs.receipt import Receipt

FRAME_S = 0.25  # minimum time between two frames
NOTABLE_S = 0.5  # a phase before the first step that takes longer leaves a line
CURVE_COLUMNS = 24
_RED = "\x1b[31m{}\x1b[39m"  # rich does not write to standard error


class Curve:
    """Every loss so far in at most 127 points: at 128, pairs of points are averaged."""

    def __init__(self) -> None:
        self.points: list[float] = []
        self._each = 1  # losses per point
        self._sum, self._num = 0.0, 0

    def add(self, loss: float) -> None:
        """Add a loss."""
        self._sum, self._num = self._sum + loss, self._num + 1
        if self._num < self._each:
            return
        self.points.append(self._sum / self._num)
        self._sum, self._num = 0.0, 0
        if len(self.points) == 128:
            pairs = zip(self.points[::2], self.points[1::2], strict=True)
            self.points = [(first + second) / 2 for first, second in pairs]
            self._each *= 2


def moving_lines(status: Status, losses: Sequence[float], width: int) -> list[StyledLine]:
    """The lines that move.

    Args:
        status: of a run that has not ended.
        losses: the loss curve so far.
        width: maximum columns of a line.
    """
    silent = not status.waiting_for and (status.last_news_s or 0) >= SILENT_S
    head = phase_line(replace(status, stall=None), width, age=clock)
    pieces: list[tuple[str, Style]] = [(head, "yellow" if silent else "")]
    below: list[StyledLine] = []
    if status.steps and (status.step or status.state == "training"):
        room = min(width - cells(head) - 3, CURVE_COLUMNS)
        curve = spark(losses, room) if width >= 60 and room >= 8 else ""
        if curve:
            pieces.append((curve.rjust(width - cells(head)), "dim"))
        below = [_bar_line(status.step / status.steps, width), *styled([step_line(status, width)])]
    elif status.total:
        below = [_bar_line(status.done / status.total, width)]
    return [StyledLine(tuple(pieces)), *below, *stall_lines(status, width)]


def _bar_line(part: float, width: int) -> StyledLine:
    filled, empty = bar(part, width - 6)
    percent = f"{int(100 * min(part, 1)):>5}%"
    return StyledLine(((filled, "bold"), (empty, "dim"), (percent, "")))


class Live:
    """A `Screen` on a terminal."""

    def __init__(
        self,
        stdout: TextIO,
        stderr: TextIO,
        *,
        verbose: bool,
        clock: Clock,
        environ: Mapping[str, str],
    ) -> None:
        self.silence = Silence(clock)
        self._out, self._err = Lines(stdout, self.silence), Lines(stderr, self.silence)
        self._verbose = verbose
        self._clock = clock
        self._environ = environ
        self._console: Console | None = None
        self._region: Region | None = None
        self._drawn: list[StyledLine] = []
        self._drawn_at = 0.0
        self._curve = Curve()
        self._before: Status | None = None
        self._phase_began = 0.0
        self._stops: set[str] = set()  # who asked

    @property
    def max_silence(self) -> float:
        """See `Screen`."""
        return self.silence.longest_s

    @property
    def _columns(self) -> int:
        """The current width: a window can be resized at any time."""
        return columns(self._out.stream, self._environ)

    def say(self, line: str) -> None:
        """See `Screen`."""
        self._stay(styled([printable(line)]), last=True)

    def status(self, status: Status) -> None:
        """Draw the moving lines if they have changed and the next frame is due."""
        if self._before is None or self._before.phase != status.phase:
            self._leave_phase()
        self._before = status
        if status.ended:
            return
        now_s = self._clock()
        if self._out.is_behind or (self._drawn and now_s - self._drawn_at < FRAME_S):
            return
        # One column stays free: some terminals wrap after a full line.
        lines = moving_lines(status, self._curve.points, min(self._columns, 120) - 1)
        if lines != self._drawn:
            self._draw(lines)
            self._drawn, self._drawn_at = lines, now_s

    def _leave_phase(self) -> None:
        """Keep a line about a phase before the first step that took a while."""
        now_s, before = self._clock(), self._before
        took_s = now_s - self._phase_began
        if before and before.state in ("planning", "starting") and took_s >= NOTABLE_S:
            done = replace(before, waiting_for="", last_news_s=None, phase_since_s=took_s)
            self._stay(styled([phase_line(done, text_width(self._columns))], "dim"))
        self._before, self._phase_began = None, now_s

    def plan(self, plan: "Plan") -> None:
        """See `Screen`."""
        self._leave_phase()
        lines = plan_lines(plan, text_width(self._columns), verbose=self._verbose)
        self._stay([*lines, StyledLine()])

    def event(self, entry: LogEntry) -> None:
        """See `Screen`."""
        match entry.event:
            case StepDone() as step:
                self._curve.add(step.loss)
            case PhaseEntered():
                self._leave_phase()
            case StopAsked(by) if by in self._stops:
                pass
            case event:
                if isinstance(event, StopAsked):  # the supervisor and the trainer both log it
                    self._stops.add(event.by)
                self._stay(news_lines(event, text_width(self._columns)))

    def refusal(self, refusal: Refusal) -> None:
        """See `Screen`."""
        self._end_region()
        lines = refusal_lines(refusal, text_width(self._columns))
        has_color = self._err.stream.isatty() and not self._environ.get("NO_COLOR")
        texts = [_ansi(line) if has_color else line.text for line in lines]
        self._err.write(*texts, last=True)

    def receipt(self, receipt: "Receipt") -> None:
        """See `Screen`."""
        self._end_region()
        width = text_width(self._columns)
        facts, closing = receipt_lines(receipt, width), closing_lines(receipt, width)
        self._stay([StyledLine(), *facts, StyledLine(), *closing], last=True)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """See `Screen`."""
        self._end_region()
        self._out.drain(patience_s)
        self._err.drain(patience_s)

    def _end_region(self) -> None:
        if self._region:
            self._guarded(self._region.stop)
        self._region, self._drawn = None, []

    def _stay(self, lines: Sequence[StyledLine], *, last: bool = False) -> None:
        """Write lines that stay, above those that move.

        Args:
            lines: may be none.
            last: the reader must get them, however far behind it is.
        """
        if not lines:
            return
        console = self._console
        if console is None:  # nothing is moving yet, so rich is not needed
            self._out.write(*(line.text for line in lines), last=last)
            return
        if not self._out.takes(last=last):
            return
        text = _rich([*styled(self._out.left_out()), *lines])
        # Text is already wrapped; a line that is still wider is a command to copy.
        self._guarded(lambda: console.print(text, soft_wrap=True))

    def _draw(self, lines: Sequence[StyledLine]) -> None:
        console, region = self._opened()
        console.width = self._columns
        # The empty last line holds the cursor, so that an echoed ^C does not shift the others.
        text = _rich([*lines, StyledLine()])
        self._guarded(lambda: region.update(text, refresh=True))

    def _opened(self) -> "tuple[Console, Region]":
        from rich.console import Console
        from rich.live import Live as Region

        if self._console is None:
            self._console = Console(
                file=self._out.stream,
                force_terminal=True,
                force_jupyter=False,
                legacy_windows=False,
                no_color=bool(self._environ.get("NO_COLOR")),
            )
        if self._region is None:
            self._region = Region(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._guarded(self._region.start)
        return self._console, self._region

    def _guarded(self, draw: Callable[[], None]) -> None:
        """Draw; a closed terminal ends the drawing, never the run."""
        if self._out.gone:
            return
        try:
            draw()
        except (OSError, ValueError, SystemExit):  # rich raises SystemExit on a broken pipe
            self._out.gone = True
        self.silence.end()


def _ansi(line: StyledLine) -> str:
    return "".join(_RED.format(text) if style == "red" else text for text, style in line.pieces)


def _rich(lines: Sequence[StyledLine]) -> "Text":
    from rich.text import Text

    whole = Text("\n").join(Text.assemble(*line.pieces) for line in lines)
    whole.no_wrap, whole.overflow = True, "ignore"
    return whole
