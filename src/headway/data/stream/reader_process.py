"""Stream reader process: windows on disk, made ahead of the trainer.

    python -m headway.data.stream.reader_process STREAM PULSE

STREAM is the stream's folder, PULSE the file for this process's pulse. Standard input carries one
`WindowRequest` per line. A refusal goes to the parent process. The process ends when its standard
input does.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.errors import Exit, Refusal, exit_code
from headway.base.foreign.budget import limit_process, out_of_memory
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.process import report_refusal
from headway.base.pulse import Phase, Pulse, ReaderWait
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.maker import ExampleMaker
from headway.data.formats.splits import SourceParts
from headway.data.stream.cursor import HELD_OUT, StreamCursor
from headway.data.stream.spec import StreamFile, load_stream
from headway.data.stream.stream import Stream
from headway.data.stream.window import Window, load_window, save_window, window_path

_KEPT_WINDOWS = 500  # half a gigabyte or more; older windows can be recreated from a cursor


@dataclass(frozen=True)
class WindowRequest:
    """A request for windows.

    Attributes:
        until: all windows below this number are wanted,
        num_steps: if they hold steps up to this one.
        cursor: where to start; None: where the reader is, initially the start of the stream.
    """

    until: int
    num_steps: int
    cursor: StreamCursor | None = None


def main(arguments: list[str]) -> int:
    """Run the process and return its exit code."""
    end_with_parent()
    os.nice(5)  # training has priority
    limit_process(num_cores=1)
    folder, pulse = Path(arguments[0]), Pulse(Path(arguments[1]))
    file = load_stream(folder)
    try:
        try:
            read_ahead(folder, file, pulse)
        except MemoryError as error:
            raise out_of_memory(file.sources[0].name) from error
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)
    return Exit.KEPT


def read_ahead(folder: Path, file: StreamFile, pulse: Pulse) -> None:
    """Make windows as they are requested on standard input, until it ends.

    Raises:
        Refusal: the sources cannot be read or cannot be trained on.
    """
    pulse.enter(Phase.LOADING_TOKENIZER)

    def on_tokens(num_tokens: int) -> None:
        pulse.tokens += num_tokens
        pulse.beat()

    tokenizer = tokenizers.load(Path(file.store))
    maker = ExampleMaker(file.options, tokenizer, file.spec.kind, on_tokens)
    units = SourceParts(file.sources, pulse)
    stream = Stream(units, maker, file.spec, pulse)
    pulse.enter(Phase.READING, total=len(units), unit="parts")
    cursor = StreamCursor()
    held_out: dict[int, int] = {}
    if file.spec.held_out:
        window = load_window(folder, HELD_OUT)
        if window is None:
            window = stream.held_out()
            save_window(folder, HELD_OUT, window)
        held_out = window.facts.units
        cursor = window.facts.after
    _ReadAhead(folder, stream, held_out, cursor, pulse).run()


class _ReadAhead:
    """Makes requested windows that are not on disk yet.

    Args:
        folder: for the windows.
        stream: makes them.
        held_out: records to skip, by unit.
        cursor: after the held-out rows.
        pulse: shows the wait for a request.
    """

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        held_out: dict[int, int],
        cursor: StreamCursor,
        pulse: Pulse,
    ) -> None:
        self._folder = folder
        self._stream = stream
        self._held_out = held_out
        self._cursor = cursor  # after the last window on disk
        self._until = self._num_steps = 0
        self._requests = _requests(pulse)

    def run(self) -> None:
        """Serve requests until standard input ends."""
        with contextlib.suppress(_EndOfRequestsError):
            while True:
                self._await_request()
                if window := load_window(self._folder, self._cursor.window):
                    self._cursor = window.facts.after
                    continue
                with contextlib.suppress(_SeekError):
                    self._stream.run(self._cursor, self._held_out, self._save)

    def _save(self, window: Window) -> None:
        """Write a window, and wait until the next one is requested.

        Raises:
            _SeekError: the next window is on disk, or does not follow this one.
        """
        number = self._cursor.window
        save_window(self._folder, number, window)
        if number > _KEPT_WINDOWS:  # window 0 stays: every attempt starts by evaluating it
            window_path(self._folder, number - _KEPT_WINDOWS).unlink(missing_ok=True)
        self._cursor = window.facts.after
        has_moved = self._await_request()
        if has_moved or window_path(self._folder, self._cursor.window).exists():
            raise _SeekError

    def _await_request(self) -> bool:
        """Wait until the next window is requested.

        Returns:
            Whether a request moved the cursor.

        Raises:
            _EndOfRequestsError: standard input ended.
        """
        has_moved = False
        while self._cursor.window >= self._until or self._cursor.steps >= self._num_steps:
            request = next(self._requests, None)
            if request is None:
                raise _EndOfRequestsError
            self._until, self._num_steps = request.until, request.num_steps
            if request.cursor:
                self._cursor, has_moved = request.cursor, True
        return has_moved


class _EndOfRequestsError(Exception):
    """Standard input ended."""


class _SeekError(Exception):
    """The next window does not follow the last one made."""


def _requests(pulse: Pulse) -> Iterator[WindowRequest]:
    while True:
        with pulse.waiting(ReaderWait.REQUEST):
            line = sys.stdin.buffer.readline()
        if not line:
            return
        yield msgspec.json.decode(line, type=WindowRequest)


if __name__ == "__main__":
    sys.exit(run_child(main))
