"""Command worker: one of the workers that a launcher starts on one or several machines."""

import os
import sys
from pathlib import Path

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.host import packages
from headway.base.host.launcher import launched_place
from headway.commands.verb import Verb, unexpected
from headway.config.command_line import Arguments
from headway.ui.output import PATIENCE_S


def worker(arguments: Arguments) -> int:
    """Train a saved plan together with the other workers that a launcher started."""
    if not arguments.words:
        raise _needs_run()
    if len(arguments.words) > 1:
        raise unexpected("worker RUN", arguments.words)
    packages.require("worker", packages.TRAINING)
    place = launched_place(os.environ)
    from headway.base.process import Stop
    from headway.runs.folder import find_run
    from headway.supervise.launched import LaunchedWorker
    from headway.ui.screens import make_screen

    folder = find_run(arguments.words[0], Path("runs"))
    quiet = arguments.on("quiet") or bool(place and place.rank)
    screen = make_screen(sys.stdout, sys.stderr, quiet=quiet, verbose=arguments.on("verbose"))
    try:
        with Stop().listening() as stop:
            return LaunchedWorker(folder, place, screen, stop).run()
    finally:
        screen.close(PATIENCE_S)


def _needs_run() -> UsageError:
    return UsageError(
        "worker needs a run",
        cause=Cause.MISSING_ARGUMENT,
        have="no folder",
        need="the folder of a run whose plan was saved",
        remedies=(Remedy("headway plan DATA --save runs/NAME", "plans, and saves the plan there"),),
    )


VERBS = {
    "worker": Verb(
        "worker RUN",
        "one of the workers that torchrun, Slurm or Kubernetes starts",
        worker,
        {},
        group="start",
        about="Trains the saved plan of a run together with the other workers that a launcher "
        "started. Rank 0 logs, saves and shows the run. Without a launcher, it is the only worker.",
        examples=(
            ("headway worker runs/notes", "what a launcher starts, once for each worker"),
            ("headway worker runs/notes --quiet", "only the closing line"),
            ("headway worker runs/notes --verbose", "the plan with every setting"),
        ),
    ),
}
