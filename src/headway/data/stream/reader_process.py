"""The process that reads a flow ahead of the trainer: windows on disk, made before they are used.

    python -m headway.data.stream.reader_process STREAM PULSE

STREAM is the stream's folder, PULSE the file of this process's pulse. Standard input: one
`WindowRequest` per line. Standard output: a refusal, if there is one. The process ends when its
standard input does.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from headway.base.errors import Exit, Refusal, exit_code, message_of
from headway.base.process import end_with_parent
from headway.base.pulse import Phase, Pulse
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.maker import ExampleMaker
from headway.data.formats.splits import SourceParts
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.spec import StreamFile, load_stream
from headway.data.stream.stream import Stream
from headway.data.stream.window import Window, load_window, save_window, window_path

IDLE = "a wish"
_KEPT = 500  # windows, half a gigabyte or more; older ones can be made again from a stand


@dataclass(frozen=True)
class WindowRequest:
    """Windows that are wanted.

    Attributes:
        until: all below this number.
        stand: from there on; None: from where the reader is, which at first is the beginning.
    """

    until: int
    cursor: StreamCursor | None = None


def main(arguments: list[str]) -> int:
    """The process; what it returns is its exit code."""
    end_with_parent()
    os.nice(5)  # the training itself comes first
    folder, pulse = Path(arguments[0]), Pulse(Path(arguments[1]))
    try:
        read_ahead(folder, load_stream(folder), pulse)
    except Refusal as refusal:
        sys.stdout.buffer.write(msgspec.json.encode(message_of(refusal)))
        return exit_code(refusal)
    return Exit.KEPT


def read_ahead(folder: Path, file: StreamFile, pulse: Pulse) -> None:
    """Make windows while they are wanted.

    Raises:
        Refusal: the sources cannot be read, or not trained on.
    """
    pulse.enter(Phase.LOADING_TOKENIZER)

    def tick(num_tokens: int) -> None:
        pulse.tokens += num_tokens
        pulse.beat()

    words = tokenizers.load(Path(file.store))
    day = datetime.fromisoformat(file.day)  # the same rows tomorrow as today
    maker = ExampleMaker(file.options, words, file.shape.kind, tick, lambda: day)
    units = SourceParts(file.sources)
    flow = Stream(units, maker, file.shape, pulse)
    pulse.enter(Phase.READING, total=len(units), unit="parts")
    stand = StreamCursor()
    held_out: dict[int, int] = {}
    if file.shape.held_out:
        window = load_window(folder, HELD_OUT)
        if window is None:
            window = flow.held_out()
            save_window(folder, HELD_OUT, window)
        held_out = window.facts.units
        stand = window.facts.after
    _ReadAhead(folder, flow, held_out, stand, pulse).run()


class _ReadAhead:
    """Windows on disk while they are wanted; those that are there are not made a second time.

    Args:
        folder: of the windows.
        flow: makes them.
        held_out: records to pass over, by unit.
        stand: behind the held-out rows.
        pulse: told while nothing is wanted.
    """

    def __init__(
        self,
        folder: Path,
        flow: Stream,
        held_out: dict[int, int],
        stand: StreamCursor,
        pulse: Pulse,
    ) -> None:
        self._folder = folder
        self._flow = flow
        self._held_out = held_out
        self._stand = stand  # behind the last window that is on disk
        self._until = 0
        self._wishes = _wishes(pulse)

    def run(self) -> None:
        """Until nobody is there to want any."""
        with contextlib.suppress(_EndOfRequestsError):
            while True:
                self._await_request()
                if window := load_window(self._folder, self._stand.window):
                    self._stand = window.facts.after
                    continue
                with contextlib.suppress(_ElsewhereError):
                    self._flow.run(self._stand, self._held_out, self._save)

    def _save(self, window: Window) -> None:
        """Write a window, and wait until the next one is wanted.

        Raises:
            _ElsewhereError: the next one is not the one that follows, or is on disk.
        """
        number = self._stand.window
        save_window(self._folder, number, window)
        if number > _KEPT:  # the first is kept: each attempt begins by looking at it
            window_path(self._folder, number - _KEPT).unlink(missing_ok=True)
        self._stand = window.facts.after
        has_moved = self._await_request()
        if has_moved or window_path(self._folder, self._stand.window).exists():
            raise _ElsewhereError

    def _await_request(self) -> bool:
        """Wait until the next window is wanted; whether that is from another place on.

        Raises:
            _EndOfRequestsError: none is wanted any more.
        """
        has_moved = False
        while self._stand.window >= self._until:
            wish = next(self._wishes, None)
            if wish is None:
                raise _EndOfRequestsError
            self._until = wish.until
            if wish.cursor:
                self._stand, has_moved = wish.cursor, True
        return has_moved


class _EndOfRequestsError(Exception):
    """Standard input ended."""


class _ElsewhereError(Exception):
    """The next window does not follow the one that was made last."""


def _wishes(pulse: Pulse) -> Iterator[WindowRequest]:
    while True:
        with pulse.waiting(IDLE):
            line = sys.stdin.buffer.readline()
        if not line:
            return
        yield msgspec.json.decode(line, type=WindowRequest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
