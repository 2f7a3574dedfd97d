"""The process that reads a flow ahead of the trainer: windows on disk, made before they are used.

    python -m headway.data.stream.reader_process FLOW PULSE

FLOW is the flow's folder, PULSE the file of this process's pulse. Standard input: a `Wish` in every
line. Standard output: a refusal, when there is one. When standard input ends, so does the process.
"""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from headway.base.errors import Exit, Refusal, exit_code, told
from headway.base.process import end_with_parent
from headway.base.pulse import Pulse
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.maker import Maker
from headway.data.stream.cursor import HELD_OUT, Stand
from headway.data.stream.spec import FlowFile, load_flow
from headway.data.stream.stream import Flow, Units
from headway.data.stream.window import Window, load_window, path_of, save_window

IDLE = "a wish"
_KEPT = 500  # windows, half a gigabyte or more; older ones can be made again from a stand


@dataclass(frozen=True)
class Wish:
    """Windows that are wanted.

    Attributes:
        until: all below this number.
        stand: from there on; None: from where the reader is, which at first is the beginning.
    """

    until: int
    stand: Stand | None = None


def main(arguments: list[str]) -> int:
    """The process; what it returns is its exit code."""
    end_with_parent()
    os.nice(5)  # the training itself comes first
    folder, pulse = Path(arguments[0]), Pulse(Path(arguments[1]))
    try:
        read_ahead(folder, load_flow(folder), pulse)
    except Refusal as refusal:
        sys.stdout.buffer.write(msgspec.json.encode(told(refusal)))
        return exit_code(refusal)
    return Exit.KEPT


def read_ahead(folder: Path, file: FlowFile, pulse: Pulse) -> None:
    """Make windows while they are wanted.

    Raises:
        Refusal: the sources cannot be read, or not trained on.
    """
    pulse.enter("loading the tokenizer")

    def tick(num_tokens: int) -> None:
        pulse.tokens += num_tokens
        pulse.beat()

    words = tokenizers.load(Path(file.store))
    day = datetime.fromisoformat(file.day)  # the same rows tomorrow as today
    maker = Maker(file.ask, words, file.shape.kind, tick, lambda: day)
    units = Units(file.sources)
    flow = Flow(units, maker, file.shape, pulse)
    pulse.enter("reading", total=len(units), unit="parts")
    stand = Stand()
    held_out: dict[int, int] = {}
    if file.shape.held_out:
        window = load_window(folder, HELD_OUT)
        if window is None:
            window = flow.held_out()
            save_window(folder, HELD_OUT, window)
        held_out = window.told.units
        stand = window.told.after
    making: Iterator[Window] | None = None
    for wish in _wishes(pulse):
        if wish.stand:
            stand, making = wish.stand, None
        while stand.window < wish.until:
            window = load_window(folder, stand.window)
            if window:
                making = None  # it was made before: go on behind it
            else:
                making = making or flow.windows(stand, held_out)
                window = next(making)
                save_window(folder, stand.window, window)
                if stand.window > _KEPT:  # the first is kept: each attempt begins by looking at it
                    path_of(folder, stand.window - _KEPT).unlink(missing_ok=True)
            stand = window.told.after


def _wishes(pulse: Pulse) -> Iterator[Wish]:
    while True:
        with pulse.waiting(IDLE):
            line = sys.stdin.buffer.readline()
        if not line:
            return
        yield msgspec.json.decode(line, type=Wish)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
