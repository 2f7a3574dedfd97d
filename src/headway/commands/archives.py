"""Commands verify, backup and restore."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from headway.base.errors import Cause, Exit, Remedy, UsageError
from headway.base.host import packages
from headway.commands.verb import (
    OUTPUT_DIR,
    Verb,
    one_run,
    output_dir,
    print_json,
    print_lines,
    terminal_width,
)
from headway.config.command_line import Arguments, Switch

_COPY = {
    **OUTPUT_DIR,
    "copy": Switch("copy every byte instead of sharing checkpoints by hard links"),
}


def verify(arguments: Arguments) -> int:
    """Recompute a receipt's claims from the run's folder; 4 if one differs."""
    packages.require("verify", packages.READING)
    from headway.runs.folder import find_run
    from headway.runs.verification import verify as verifying
    from headway.ui.show_archives import verification_lines
    from headway.ui.spinner import show_progress

    folder, quiet = find_run(one_run(arguments), output_dir(arguments)), arguments.on("quiet")
    with show_progress(sys.stderr, quiet=quiet) as pulse:
        found = verifying.verify(folder, pulse)
    if arguments.on("json"):
        print_json(found)
    elif not quiet or not found.holds:
        print_lines(verification_lines(found, terminal_width()))
    return Exit.KEPT if found.holds else Exit.BROKEN


def backup(arguments: Arguments) -> int:
    """Back up a run, or list the backups."""
    from headway.runs.archive import backup as backups
    from headway.runs.folder import find_run
    from headway.ui.show_archives import backup_lines
    from headway.ui.spinner import show_progress

    if arguments.on("list"):
        return _list_backups(one_run(arguments), output_dir(arguments), json=arguments.on("json"))
    folder, quiet = find_run(one_run(arguments), output_dir(arguments)), arguments.on("quiet")
    with show_progress(sys.stderr, quiet=quiet) as pulse:
        made = backups.make_backup(
            folder,
            datetime.now(UTC),
            pulse,
            kind=arguments.switches.get("type", "manual"),
            note=arguments.switches.get("note", ""),
            share=not arguments.on("copy"),
        )
    if arguments.on("json"):
        print_json(made)
    elif not quiet:
        print_lines(backup_lines(made, backups.damaged_files(made), terminal_width()))
    return Exit.KEPT


def _list_backups(run: str | None, folder: Path, *, json: bool) -> int:
    from headway.runs.archive import backup as backups
    from headway.ui.show_archives import backups_table

    runs = [backups.find_run_or_backups(run, folder)] if run else backups.runs_with_backups(folder)
    found = {path: backups.list_backups(path) for path in runs}
    if json:
        print_json([one for some in found.values() for one in some])
    elif any(found.values()):
        print_lines(backups_table(found, terminal_width()))
    else:
        whose = run or f"the runs in {folder}"
        print_lines([f"no backups of {whose} yet; headway backup makes one"])
    return Exit.KEPT


def restore(arguments: Arguments) -> int:
    """Go back to a backup; what was there is backed up first."""
    from headway.runs.archive import backup as backups
    from headway.runs.archive import restore as restoring
    from headway.ui.show_archives import restored_lines
    from headway.ui.spinner import show_progress

    words, quiet = arguments.words, arguments.on("quiet")
    if not 1 <= len(words) <= 2:
        raise _needs_names(words)
    run = backups.find_run_or_backups(words[0], output_dir(arguments))
    name = words[1] if len(words) == 2 else None
    with show_progress(sys.stderr, quiet=quiet) as pulse:
        done = restoring.restore(
            run, name, datetime.now(UTC), pulse, share=not arguments.on("copy")
        )
    if arguments.on("json"):
        print_json(done)
    elif not quiet:
        print_lines(restored_lines(done, terminal_width()))
    return Exit.KEPT


def _needs_names(words: Sequence[str]) -> UsageError:
    return UsageError(
        "restore needs a run, and a backup unless it is the newest",
        cause=Cause.UNEXPECTED_ARGUMENT if words else Cause.MISSING_ARGUMENT,
        have=" ".join(words) or "no name",
        need="headway restore RUN [BACKUP]",
        remedies=(Remedy("headway backup --list", "shows both"),),
    )


VERBS = {
    "verify": Verb(
        "verify [RUN]",
        "recompute a receipt's claims",
        verify,
        OUTPUT_DIR,
        group="keep",
        about="Recomputes every claim of a receipt from the files of its run, and shows what "
        "differs. It trusts nothing in the receipt, and exits with 4 if a claim is wrong.",
        examples=(
            ("headway verify", "the newest run"),
            ("headway verify notes", "the run notes"),
            ("headway verify notes --json", "every claim, for programs"),
        ),
    ),
    "backup": Verb(
        "backup [RUN] | --list [RUN]",
        "make a copy of a run that can be restored",
        backup,
        {
            **_COPY,
            "type": Switch("its purpose, in one word", "WORD", "manual"),
            "note": Switch("a note to keep with it", "TEXT"),
            "list": Switch("list the backups"),
        },
        group="keep",
        about="Makes a verified copy of a run to restore later. Checkpoints are shared with the "
        "run by hard links if the disk supports them, so a backup takes little space.",
        examples=(
            ("headway backup notes", "a copy of the run notes"),
            ("headway backup notes --note 'before more data'", "with a note"),
            ("headway backup --list", "all backups"),
        ),
    ),
    "restore": Verb(
        "restore RUN [BACKUP]",
        "restore a run from a backup",
        restore,
        _COPY,
        group="keep",
        about="Restores a run from a backup, by default the newest one. The current state is "
        "backed up first, so that nothing is lost.",
        examples=(
            ("headway restore notes", "back to its newest backup"),
            ("headway restore notes 20260102-030405-manual", "back to this one"),
            ("headway restore notes --copy", "without sharing files with the backup"),
        ),
    ),
}
