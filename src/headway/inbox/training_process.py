"""Training process of the inbox: one file, supervised like any run, apart from the daemon.

    python -m headway.inbox.training_process     its request is a line on standard input

It ends with the daemon, however that ends, and the trainer ends with it.
"""

import os
import sys
from dataclasses import dataclass

import msgspec

from headway.base.errors import Refusal, exit_code
from headway.base.host.child_main import end_with_parent, run_child
from headway.base.process import Stop, report_refusal
from headway.inbox.file_screen import make_file_screen
from headway.inbox.jobs.inbox_job import GivenSetting
from headway.inbox.options import CHOSEN_ANEW, FirstModel, settings_of_file


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
    first_model: FirstModel | None = None
    output: Output = Output()


def main(_: list[str]) -> int:
    """The process; returns the exit code of the training."""
    end_with_parent()
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=FileRequest)
    try:
        return train_file(request)
    except Refusal as refusal:
        report_refusal(refusal)
        return exit_code(refusal)


def train_file(request: FileRequest) -> int:
    """Train a file; returns the exit code.

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
    try:
        with Stop().listening() as stop:
            from headway.supervise.supervisor import Request, Supervisor

            argv = ("headway", "inbox", "start", os.path.dirname(os.path.dirname(request.source)))  # noqa: PTH120
            asked = Request((request.source,), settings, argv, shown.verbose, CHOSEN_ANEW)
            return Supervisor(asked, screen, stop).train().code
    finally:
        screen.close(settings.grace_s)


if __name__ == "__main__":
    sys.exit(run_child(main))
