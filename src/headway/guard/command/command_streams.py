"""Streams of a command: the terminal, pipes or files that it gets in place of ours."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from headway.guard.command.outlet import ERR, OUT, Outlet
from headway.guard.command.terminal import Terminal, restore
from headway.ui.output import columns


@dataclass(frozen=True)
class CommandStreams:
    """What stands between the command's streams and ours.

    Attributes:
        given: descriptors of the command's standard input, output and error.
        sources: descriptors that we read, each with the stream that it goes to.
        ours: descriptors that nobody else may hold open.
        terminal: a pty, if the command has one.
        foreground: the terminal that the command reads itself, -1 for none.
        outlet: where output goes.
    """

    given: tuple[int, int, int]
    sources: Mapping[int, int]
    ours: tuple[int, ...]
    terminal: Terminal | None
    foreground: int
    outlet: Outlet

    @classmethod
    def of_this_process(cls, *, quiet: bool) -> "CommandStreams":
        """For a command that is to run as if it had our streams.

        Where we write to a terminal, it gets a terminal; elsewhere a pipe, a single one if both
        streams lead to one place. Standard input is
        passed on as it is, unless it is the terminal that goes with the output.
        """
        terminals = frozenset(stream for stream in (OUT, ERR) if os.isatty(stream))
        reads = os.isatty(0)
        terminal = None
        if terminals:
            real = min(terminals)
            shared = not (reads and terminals == frozenset((OUT, ERR)))
            terminal = Terminal(0 if reads else real, reads=reads, shared=shared)
        given = [0, OUT, ERR]
        sources: dict[int, int] = {}
        is_one = not terminals and _are_one(OUT, ERR)
        for stream in (OUT, ERR):
            if terminal and stream in terminals:
                given[stream] = terminal.slave
                sources.setdefault(terminal.master, stream)
            elif is_one and stream == ERR:
                given[ERR] = given[OUT]  # one pipe keeps the order
            else:
                ours, given[stream] = os.pipe()
                sources[ours] = stream
        if terminal and reads:
            given[0] = terminal.slave
        outlet = Outlet(
            terminals,
            lambda: columns(sys.stderr, os.environ),
            (lambda: terminal.takes_lines) if terminal else (lambda: True),
            quiet=quiet,
            together=frozenset((OUT, ERR)) if is_one else terminals,
        )
        foreground = 0 if reads and not terminal and _is_foreground(0) else -1
        streams = (given[0], given[1], given[2])
        return cls(streams, sources, tuple(sources), terminal, foreground, outlet)

    @property
    def restore(self) -> Callable[[], None] | None:
        """What sets the real terminal back as it is now."""
        if not self.terminal:
            return None
        real, before = self.terminal.real, self.terminal.saved()
        return lambda: restore(real, before)

    def close_given(self) -> None:
        """Close our copies of the command's ends; the pty's is kept, to ask it for its modes."""
        for descriptor in set(self.given[1:]):
            if not self.terminal or descriptor != self.terminal.slave:
                with contextlib.suppress(OSError):
                    os.close(descriptor)


def _are_one(one: int, other: int) -> bool:
    """Whether two descriptors lead to the same file or pipe."""
    try:
        return os.path.sameopenfile(one, other)
    except OSError:
        return False


def _is_foreground(descriptor: int) -> bool:
    try:
        return os.tcgetpgrp(descriptor) == os.getpgrp()
    except OSError:
        return False
