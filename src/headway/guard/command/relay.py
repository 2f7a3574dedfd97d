"""Relay: the bytes and signals between a person and a guarded command, until it ends."""

import contextlib
import errno
import fcntl
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from headway.guard.command.keeper import Happened, Keeper, KeeperNews, is_job_control
from headway.guard.command.outlet import Outlet
from headway.guard.command.terminal import Terminal

_PIECE = 1 << 16
_GET_PIPE_SIZE = 1032  # F_GETPIPE_SZ
_TICK_S = 0.25
_SETTLE_S = 0.3  # for the last bytes of a terminal, after its command has ended
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH")
_STOPPING = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_MARK = b"\x00\x16headway\x16\x00"  # printed nowhere: written after the last byte of a terminal


@dataclass
class CommandEnd:
    """How a command is made to end, also from another thread.

    Attributes:
        asked: the first signal that asked the command to stop, "" if none did.
        requested: whether the guard ends it: by SIGTERM, and after the grace period by SIGKILL.
        timed_out: whether that is because its time was over.
    """

    grace_s: float
    asked: str = ""
    requested: bool = False
    timed_out: bool = False
    since_s: float = 0.0
    terminated: bool = False
    killed: bool = False

    def request(self) -> None:
        """Have the command end."""
        if not self.requested:
            self.since_s, self.requested = time.monotonic(), True

    def reset(self) -> None:
        """Forget it: another attempt begins."""
        self.requested = self.terminated = self.killed = False


@dataclass
class Relay:
    """Passes on what a command prints and what it is sent.

    Args:
        keeper: which starts the command.
        outlet: where its output goes.
        sources: descriptors that the output is read from, each with its stream.
        terminal: of the command, if it has one.
        on_output: called with all that was passed on.
        on_pause: called with the seconds that the whole job was stopped, as by Ctrl+Z.
        foreground: descriptor of the real terminal if the command reads it itself, -1 otherwise.
    """

    keeper: Keeper
    outlet: Outlet
    sources: Mapping[int, int]
    terminal: Terminal | None
    on_output: Callable[[bytes, int], None]
    on_pause: Callable[[float], None]
    ending: CommandEnd
    foreground: int = -1
    pid: int = 0  # of the command, 0 while none runs
    _typed: bytes = b""
    _handlers: dict[int, object] = field(default_factory=dict[int, object])

    def __post_init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        for descriptor in self.sources:
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)
        self._selector.register(self.keeper.news, selectors.EVENT_READ)
        self._reads_typed = self._waits_to_type = self._asked_to_pause = False

    # -- signals

    def listen(self) -> None:
        """Pass on signals from now on; those that were ignored from the start stay so."""
        for name in _FORWARDED:
            self._handle(getattr(signal, name), self._forward)
        self._handle(signal.SIGTSTP, self._forward)
        self._handle(signal.SIGCONT, self._forward)

    def _handle(self, number: signal.Signals, handler: Callable[[int, object], None]) -> None:
        if signal.getsignal(number) is not signal.SIG_IGN:
            self._handlers[number] = signal.getsignal(number)
            signal.signal(number, handler)

    def unlisten(self) -> None:
        """Set the handlers back."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        self._handlers.clear()

    def _forward(self, number: int, _frame: object) -> None:
        name = signal.Signals(number).name
        self._asked_to_pause |= number == signal.SIGTSTP
        if name in _STOPPING and not self.ending.asked:
            self.ending.asked = name
        if number == signal.SIGWINCH and self.terminal:
            self.terminal.copy_size()  # the kernel tells the command
        else:
            self.send(number)

    def send(self, number: int) -> None:
        """Send a signal to the command and all in its process group; nothing if it has ended."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    # -- one run of the command

    def run(self, deadline_s: float = 0.0) -> KeeperNews:
        """Start the command and pass everything on until it has ended; how it did.

        Args:
            deadline_s: when it is ended, by the monotonic clock; 0: never.
        """
        self.pid = 0
        self.keeper.start()
        if self.terminal:
            self.terminal.enter()
        while True:
            self._watch_typing()
            for key, events in self._selector.select(_TICK_S):
                if key.fileobj is self.keeper.news:
                    for news in self.keeper.read():
                        if news.happened in (Happened.ENDED, Happened.FAILED):
                            return self._ended(news)
                        self._follow(news)
                elif self.terminal and key.fd == self.terminal.real:
                    self._read_typed()
                elif events & selectors.EVENT_READ:
                    self._read_output(key.fd)
            if deadline_s and time.monotonic() >= deadline_s:
                self.ending.timed_out = True
                self.ending.request()
            self._end_if_asked()

    def _follow(self, news: KeeperNews) -> None:
        if news.happened is Happened.STARTED:
            self.pid = news.value
            if self.ending.asked:  # before there was a process to tell
                self.send(getattr(signal, self.ending.asked))
        elif news.happened is Happened.STOPPED and is_job_control(news.value) and self._is_job:
            self._stop_with_it()

    @property
    def _is_job(self) -> bool:
        return bool(self.terminal) or self.foreground >= 0 or self._asked_to_pause

    def _stop_with_it(self) -> None:
        """Stop this process, too, so that the shell shows its prompt; continue when it says so."""
        began_s = time.monotonic()
        self._asked_to_pause = False
        self.give_terminal_back()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
        goes_on = signal.signal(signal.SIGCONT, signal.SIG_IGN)
        # The pipeline that we are part of, and then this thread, so that it stops here and now.
        os.kill(0, signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        signal.signal(signal.SIGCONT, goes_on)
        self.on_pause(time.monotonic() - began_s)
        if self.terminal:
            self.terminal.copy_size()
            self.terminal.enter()
        self._set_foreground(self.pid)
        self.send(signal.SIGCONT)

    def give_terminal_back(self) -> None:
        """Leave the real terminal as it was found."""
        self.outlet.clear()
        if self.terminal:
            self.terminal.leave()
        self._set_foreground(os.getpgrp())

    def _set_foreground(self, group: int) -> None:
        if self.foreground < 0:
            return
        before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        with contextlib.suppress(OSError):
            os.tcsetpgrp(self.foreground, group)
        signal.signal(signal.SIGTTOU, before)

    def _end_if_asked(self) -> None:
        ending = self.ending
        if not ending.requested or not self.pid:
            return
        if not ending.terminated:
            ending.terminated = True
            self.send(signal.SIGTERM)
            self.send(signal.SIGCONT)  # a stopped process takes no other signal
        if not ending.killed and time.monotonic() - ending.since_s > ending.grace_s:
            ending.killed = True
            self.send(signal.SIGKILL)

    # -- bytes

    def _watch_typing(self) -> None:
        """Read what is typed only while it is ours to read, and the command takes it."""
        terminal = self.terminal
        if not terminal:
            return
        terminal.enter()  # it may have come to the foreground
        if self._typed:
            self._type()
        wanted = terminal.is_raw and not self._typed
        if wanted and not self._reads_typed:
            self._selector.register(terminal.real, selectors.EVENT_READ)
        elif self._reads_typed and not wanted:
            self._selector.unregister(terminal.real)
        self._reads_typed = wanted
        if bool(self._typed) != self._waits_to_type and terminal.master in self._selector.get_map():
            self._waits_to_type = bool(self._typed)
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            events = both if self._typed else selectors.EVENT_READ
            self._selector.modify(terminal.master, events)

    def _read_typed(self) -> None:
        assert self.terminal is not None, "only a terminal is typed on"
        try:
            self._typed = os.read(self.terminal.real, _PIECE)
        except OSError:
            self._typed = b""
        if not self._typed:  # the terminal is gone
            self.terminal.reads = False
            self.terminal.leave()
        self._type()

    def _type(self) -> None:
        assert self.terminal is not None, "only a terminal is typed on"
        with contextlib.suppress(BlockingIOError):
            written = os.write(self.terminal.master, self._typed)
            self._typed = self._typed[written:]

    def _read_output(self, source: int) -> bytes:
        """Pass on one piece; b"" if there is none."""
        stream = self.sources[source]
        try:
            data = os.read(source, _PIECE)
        except BlockingIOError:
            return b""
        except OSError as error:  # EIO: nobody has the terminal open
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._pass_on(source, stream, data)
        return data

    def _pass_on(self, source: int, stream: int, data: bytes) -> None:
        clean = data.replace(_MARK, b"") if self.terminal else data
        if clean and not self.outlet.pass_on(stream, clean):
            self._stop_reading(source)
        self.on_output(clean, stream)

    def _stop_reading(self, source: int) -> None:
        """Nobody takes it: let the command see that, as it would have without us."""
        with contextlib.suppress(KeyError):
            self._selector.unregister(source)
        if self.terminal and source == self.terminal.master:
            if not self.ending.asked:
                self.send(signal.SIGHUP)  # what a terminal that is gone does
        else:
            os.close(source)

    def _ended(self, news: KeeperNews) -> KeeperNews:
        """Pass on what the command wrote before it ended."""
        self.pid = 0
        for source in self._open_sources():
            if self.terminal and source == self.terminal.master:
                self._drain_terminal(source)
            else:
                self._drain_pipe(source)
        self.give_terminal_back()
        if self._reads_typed and self.terminal:
            self._selector.unregister(self.terminal.real)
            self._reads_typed = False
        return news

    def _drain_pipe(self, source: int) -> None:
        """Read what fits into a pipe: what outlives the command may continue writing forever."""
        left = fcntl.fcntl(source, _GET_PIPE_SIZE) if sys.platform == "linux" else _PIECE
        while left > 0 and source in self._open_sources():
            data = self._read_output(source)
            left -= len(data) or left

    def _open_sources(self) -> list[int]:
        watched = self._selector.get_map()
        return [source for source in self.sources if source in watched]

    def _drain_terminal(self, master: int) -> None:
        """Read up to a mark that is written now: a terminal delivers what came before it first."""
        assert self.terminal is not None, "of a terminal"
        stream, kept, mark = self.sources[master], b"", _MARK
        until_s = time.monotonic() + _SETTLE_S
        with contextlib.suppress(OSError), _another(self.terminal.slave) as slave:
            while _MARK not in kept and time.monotonic() < until_s:
                with contextlib.suppress(BlockingIOError):
                    mark = mark[os.write(slave, mark) :] if mark else b""
                if not _readable(master, 0.02):
                    continue
                kept += os.read(master, _PIECE)
                if _MARK not in kept and len(kept) > len(_MARK):
                    self._pass_on(master, stream, kept[: -len(_MARK)])
                    kept = kept[-len(_MARK) :]
        if kept:
            self._pass_on(master, stream, kept)

    def close(self) -> None:
        """Give the terminal back and stop listening."""
        self.give_terminal_back()
        self.unlisten()
        self._selector.close()


@contextlib.contextmanager
def _another(terminal: int) -> Generator[int]:
    """A descriptor of the same terminal that does not block; the command's own are left alone."""
    flags = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(os.ttyname(terminal), flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _readable(descriptor: int, seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(seconds))
