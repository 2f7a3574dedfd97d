"""Training process of the inbox: one file after the other, each supervised like any run.

    python -m headway.inbox.training_process FD NICE [FOLDER]

Each line on standard input is a request, and has an answer: a line on descriptor FD. What is still
known after a file may be measured while the next one is trained; then it has an answer, too. All
that it starts is NICE, too. With a FOLDER for their last words, a planner and a trainer are
imported before there is a request.

It ends with the daemon, however that ends, and the trainer ends with it.
"""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from headway.base.errors import Exit, Refusal, exit_code, message_of
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.process import ChildProcess, Stop
from headway.inbox.file_screen import make_file_screen
from headway.inbox.jobs.inbox_job import GivenSetting
from headway.inbox.jobs.outcomes import TrainingEnd, is_trained, receipt_of
from headway.inbox.options import CHOSEN_ANEW, FirstModel, settings_of_file
from headway.inbox.recall.beside import MeasuredBeside, has_room_beside
from headway.inbox.recall.still_known import LearnedFile
from headway.runs.plan import load_plan

if TYPE_CHECKING:
    from headway.config.settings import Settings
    from headway.inbox.arriving.read_ahead import ReadAhead
    from headway.supervise.screen import Screen
    from headway.supervise.warm_start import WarmStart


@dataclass(frozen=True)
class Output:
    """How the training of a file is shown."""

    quiet: bool = False
    json: bool = False
    verbose: bool = False


@dataclass(frozen=True)
class FileRequest:
    """A file to train, and what it is trained on top of.

    Attributes:
        name: as people know it.
        source: its absolute path.
        settings: as they were written.
        run_name: of its run.
        output_dir: with the runs of the inbox.
        parent: folder of the run that it continues, "" for the first model.
        num_waiting: files that wait behind it.
        next_source: the first of them, if it is known; "" if not.
        learned: the files that the model will have learned from, this one last.
        backup: back up the run that it continues first.
        measure_all: measure what is still known of all files, however long it takes.
        beside: it may be measured while the next file is trained.
        first_model: the model that the inbox began with.
        output: how it is shown.
    """

    name: str
    source: str
    settings: tuple[GivenSetting, ...]
    run_name: str
    output_dir: str
    parent: str
    num_waiting: int = 0
    next_source: str = ""
    learned: tuple[LearnedFile, ...] = ()
    backup: bool = False
    measure_all: bool = False
    beside: bool = False
    first_model: FirstModel | None = None
    output: Output = Output()


@dataclass(frozen=True)
class FileAnswer:
    """What became of a request.

    Attributes:
        end: how it ended; None: what was measured beside is there, or never will be.
    """

    end: TrainingEnd | None = None


class FileTrainer(Protocol):
    """Trains one file at a time, in a process of its own."""

    def start(self, request: FileRequest) -> None:
        """Start with a file."""
        ...

    def end(self) -> TrainingEnd | None:
        """How it ended; None while it is at work."""
        ...

    def ask_to_stop(self) -> None:
        """Ask it to save and end."""
        ...

    @property
    def is_measuring(self) -> bool:
        """Whether what is still known after the file before is being measured."""
        ...


def main(arguments: list[str]) -> int:
    """The process."""
    end_with_parent()
    from headway.supervise.warm_start import WarmStart  # here: the daemon needs only the request

    answers = int(arguments[0])
    os.nice(int(arguments[1]))
    warm = WarmStart(Path(arguments[2]) if arguments[2:] else None)
    one_at_a_time = threading.Lock()

    def answer(end: TrainingEnd | None = None) -> None:
        with one_at_a_time, contextlib.suppress(BrokenPipeError):
            os.write(answers, msgspec.json.encode(FileAnswer(end)) + b"\n")

    with contextlib.ExitStack() as ends:
        ends.callback(warm.close)
        beside = ends.enter_context(contextlib.closing(MeasuredBeside(answer)))
        ahead = ends.enter_context(contextlib.closing(NextFile()))
        for line in sys.stdin.buffer:
            request = msgspec.json.decode(line, type=FileRequest)
            try:
                end = train_file(request, warm, beside, ahead)
            except Refusal as refusal:
                end = TrainingEnd(exit_code(refusal), message_of(refusal))
            answer(end)
            if warm.is_broken:  # the daemon starts another process like this one
                break
    return Exit.KEPT


def train_file(
    request: FileRequest, warm: "WarmStart", beside: MeasuredBeside, ahead: "NextFile"
) -> TrainingEnd:
    """Train a file, and measure what is still known after it.

    Args:
        request: what is asked for.
        warm: where planner and trainer come from.
        beside: measures while the next file is trained.
        ahead: what has read this file, and will read the next one.

    Raises:
        Refusal: it cannot be trained.
    """
    settings = settings_of_file(
        request.settings,
        request.first_model,
        run_name=request.run_name,
        output_dir=request.output_dir,
        parent=request.parent,
    )
    shown = request.output
    screen = make_file_screen(
        request.name,
        request.num_waiting,
        quiet=shown.quiet,
        json=shown.json,
        verbose=shown.verbose,
        logging_steps=settings.logging_steps,
    )
    run = Path(request.output_dir, request.run_name)
    try:
        with Stop().listening() as stop, _stops_kept_back():
            code = int(Exit.KEPT)
            if not is_trained(receipt_of(run)):
                code = _train(request, settings, screen, stop, warm, ahead)
            receipt = receipt_of(run)
            if not (receipt and receipt.checkpoint and is_trained(receipt)):
                return TrainingEnd(code)
            checkpoint = receipt.checkpoint.name
            is_beside = request.beside and not stop.by and has_room_beside(load_plan(run))
            if is_beside:
                beside.start(lambda stop: _measure(run, checkpoint, request, stop, warm))
            else:
                beside.wait()
                _measure(run, checkpoint, request, stop, warm)
            return TrainingEnd(code, is_measuring=is_beside)
    finally:
        screen.close(settings.grace_s)


class NextFile:
    """The file that is read while another one is trained, kept until it is trained itself."""

    def __init__(self) -> None:
        self._reading: ReadAhead | None = None

    def replace(self, reading: "ReadAhead | None") -> "ReadAhead | None":
        """Keep another one; returns the one that was kept, for the caller to close."""
        before, self._reading = self._reading, reading
        return before

    def close(self) -> None:
        """End what reads."""
        if reading := self.replace(None):
            reading.close()


def _train(
    request: FileRequest,
    settings: "Settings",
    screen: "Screen",
    stop: Stop,
    warm: "WarmStart",
    ahead: NextFile,
) -> int:
    """Train a file, and read the next one meanwhile; returns the exit code."""
    from headway.inbox.arriving.read_ahead import ReadAhead
    from headway.supervise.supervisor import Request, Supervisor

    if request.backup and request.parent:
        _back_up(Path(request.parent), request)
    place = Path(request.source).parent
    argv = ("headway", "inbox", "start", str(place.parent))
    asked = Request((request.source,), settings, argv, request.output.verbose, CHOSEN_ANEW)
    following = ReadAhead(request.next_source, place, settings, CHOSEN_ANEW, warm.planner)
    own = ahead.replace(following)
    with contextlib.ExitStack() as ends:
        planner = partial(own.planner_of, request.source) if own else lambda *_: None
        ends.callback(own.close if own else lambda: None)
        return Supervisor(asked, screen, stop, warm, following.start, planner).train().code


@contextlib.contextmanager
def _stops_kept_back() -> Generator[None]:
    """At the end, keep requests to stop back until somebody listens again: they would end this."""
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, Stop.CODES)


def _back_up(parent: Path, request: FileRequest) -> None:
    """Back up the model that a file is trained on top of; shown like any wait."""
    from headway.inbox.jobs.model_backup import back_up_model
    from headway.ui.spinner import show_progress

    with show_progress(sys.stderr, quiet=request.output.quiet or request.output.json) as pulse:
        back_up_model(parent, f"before {request.name}", datetime.now(UTC), pulse)


def _measure(
    run: Path, checkpoint: str, request: FileRequest, stop: Stop, warm: "WarmStart"
) -> None:
    """Measure what is still known of all files; shown like any wait, unless a file is trained."""
    from headway.inbox.recall.measure import measure_still_known
    from headway.supervise.inference import run_inference
    from headway.ui.spinner import show_wait

    is_beside = threading.current_thread() is not threading.main_thread()
    is_quiet = request.output.quiet or request.output.json or is_beside

    def show(process: ChildProcess, pulse: Path, is_over: Callable[[object], bool]) -> None:
        show_wait(sys.stderr, pulse, is_over, quiet=is_quiet, sleep=process.wait_up_to)

    infer = partial(run_inference, spawn=warm.worker)
    measure_still_known(
        run, checkpoint, request.learned, stop, show, infer, all_files=request.measure_all
    )


if __name__ == "__main__":
    sys.exit(run_child(main, listens=True))
