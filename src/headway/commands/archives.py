"""Hold a receipt to its folder, copy a run, go back to a copy: verify, backup, restore."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from headway.base.errors import Exit, Remedy, UsageError
from headway.commands.status import print_json, width
from headway.runs import backup as backups
from headway.runs import restore as restoring
from headway.runs import verify as verifying
from headway.runs.folder import find_run
from headway.ui.show_archives import (
    backup_lines,
    backups_table,
    restored_lines,
    verification_lines,
)
from headway.ui.spinner import telling


def verify(words: Sequence[str], options: Mapping[str, str], output_dir: Path) -> int:
    """Compute a receipt's claims again; 4 where one differs."""
    folder = find_run(_one(words), output_dir)
    with telling(sys.stderr, quiet="quiet" in options) as pulse:
        found = verifying.verify(folder, pulse)
    if "json" in options:
        print_json(found)
    elif "quiet" not in options or not found.holds:
        _print(verification_lines(found, width()))
    return Exit.KEPT if found.holds else Exit.BROKEN


def backup(words: Sequence[str], options: Mapping[str, str], output_dir: Path) -> int:
    """Copy a run as it is, or list the copies there are."""
    if "list" in options:
        return _list(_one(words), output_dir, json="json" in options)
    folder = find_run(_one(words), output_dir)
    with telling(sys.stderr, quiet="quiet" in options) as pulse:
        made = backups.make_backup(
            folder,
            datetime.now(UTC),
            pulse,
            kind=options.get("type", "manual"),
            note=options.get("note", ""),
            share="copy" not in options,
        )
    if "json" in options:
        print_json(made)
    elif "quiet" not in options:
        _print(backup_lines(made, backups.damaged_files(made), width()))
    return Exit.KEPT


def _list(run: str | None, output_dir: Path, *, json: bool) -> int:
    if run:
        runs = [backups.find_run_or_backups(run, output_dir)]
    else:
        runs = backups.runs_with_backups(output_dir)
    found = {path: backups.list_backups(path) for path in runs}
    if json:
        print_json([one for some in found.values() for one in some])
    elif any(found.values()):
        _print(backups_table(found, width()))
    else:
        _print(
            [f"no backups of {run or f'the runs in {output_dir}'} yet; headway backup makes one"]
        )
    return Exit.KEPT


def restore(words: Sequence[str], options: Mapping[str, str], output_dir: Path) -> int:
    """Go back to a copy, and keep what was there."""
    if not 1 <= len(words) <= 2:
        raise _which(words)
    run = backups.find_run_or_backups(words[0], output_dir)
    name = words[1] if len(words) == 2 else None
    share = "copy" not in options
    with telling(sys.stderr, quiet="quiet" in options) as pulse:
        done = restoring.restore(run, name, datetime.now(UTC), pulse, share=share)
    if "json" in options:
        print_json(done)
    elif "quiet" not in options:
        _print(restored_lines(done, width()))
    return Exit.KEPT


DO = {"verify": verify, "backup": backup, "restore": restore}


def _one(words: Sequence[str]) -> str | None:
    if len(words) > 1:
        raise UsageError(
            "one run at a time",
            have=" ".join(words),
            need="one name or folder, or none for the newest",
            remedies=tuple(Remedy(word) for word in words[:2]),
        )
    return words[0] if words else None


def _print(lines: Sequence[str]) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


def _which(words: Sequence[str]) -> UsageError:
    return UsageError(
        "restore needs the name of a run, and of a backup unless it is the newest",
        have=" ".join(words) or "no name",
        need="headway restore RUN [BACKUP]",
        remedies=(Remedy("headway backup --list", "shows both"),),
    )
