"""Deletion of runs, after a confirmation: `headway runs --delete RUN...`."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.commands.verb import output_dir, print_json, print_lines, print_text, terminal_width
from headway.config.command_line import Arguments

if TYPE_CHECKING:
    from headway.runs.archive.deletion import Deletion


def delete_runs(arguments: Arguments) -> int:
    """Delete runs that nothing depends on; asks first."""
    from headway.runs.archive.deletion import check_deletions, delete_run
    from headway.ui.show_archives import deleted_lines, deletion_lines

    words, json, width = arguments.words, arguments.on("json"), terminal_width()
    if not words:
        raise _needs_names()
    found = check_deletions(words, output_dir(arguments))
    if not arguments.on("yes"):
        if json or not (sys.stdin.isatty() and sys.stdout.isatty()):
            raise _needs_confirmation(words, output_dir(arguments))
        for one in found:
            print_lines(deletion_lines(one, width))
        if not _is_confirmed(found):
            print_lines(["nothing was deleted"])
            return Exit.KEPT
    for one in found:
        delete_run(one)
        if not json and not arguments.on("quiet"):
            print_lines(deleted_lines(one, width))
    if json:
        print_json(found)
    return Exit.KEPT


def _is_confirmed(found: "Sequence[Deletion]") -> bool:
    what = found[0].run if len(found) == 1 else f"these {len(found)} runs"
    print_text(f"Type yes to delete {what}: ")
    return sys.stdin.readline().strip().lower() == "yes"


def _needs_names() -> UsageError:
    return UsageError(
        "runs --delete needs the names of runs",
        cause=Cause.MISSING_ARGUMENT,
        have="no name",
        need="headway runs --delete RUN...",
        remedies=(Remedy("headway runs", "lists the runs"),),
    )


def _needs_confirmation(words: Sequence[str], folder: Path) -> UsageError:
    runs = " ".join(map(shlex.quote, words))
    runs += "" if folder == Path("runs") else f" -o {shlex.quote(str(folder))}"
    return UsageError(
        "nothing was deleted: there is no terminal to ask on",
        cause=Cause.MISSING_ARGUMENT,
        have="no --yes",
        need="a confirmation",
        remedies=(Remedy(f"headway runs --delete {runs} --yes", "deletes without asking"),),
    )
