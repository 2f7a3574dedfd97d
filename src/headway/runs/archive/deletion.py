"""Run deletion: what may be deleted, what depends on it, and a deletion that survives a power cut.

Only what Headway made is deleted. A run's folder with anything else in it is refused, and no link
is followed. The folder is renamed into `.deleting` next to it, durably, before its files go: a
deletion that was cut short is finished by the next one, and no part of a run is left under its
name.
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.disk import disk_errors
from headway.base.errors import Cause, ComeBack, Problems, Refusal, Remedy, UsageError
from headway.base.files import MANIFEST, Manifest, sync_folder, unused_path
from headway.base.lock import exclusive_lock, is_held
from headway.runs.archive.backup import list_backups
from headway.runs.folder import RunFolder, find_run, is_run, list_runs
from headway.runs.loss_history import FILE as LOSSES
from headway.runs.watched.watched_run import FILE as WATCHED

_DOOMED = ".deleting"
_FILES = {
    *("run.yaml", "plan.json", "settled.json", "events.jsonl", "pulse.json", "run.lock", "save"),
    *("receipt.json", "rejected.jsonl", "samples.jsonl", "traceback.txt", LOSSES, WATCHED),
    *("guard.json", "output.log"),
}
_LEFT_BEHIND = re.compile(r"\.checkpoint-.*|\..*\.tmp|\.nfs.*|\.DS_Store|stall-.*\.txt")
_CHECKPOINT = re.compile(r"checkpoint-\d+(-\d+)?")
_SUFFIXES = {".json", ".safetensors", ".jinja", ".txt", ".model"}  # where there is no manifest


@dataclass(frozen=True)
class Deletion:
    """A run that can be deleted.

    Attributes:
        run: its name.
        folder: absolute.
        checkpoints: their number.
        bytes_freed: of its files, but for those that a backup shares.
        bytes_shared: of its files that stay on the disk under a backup's name.
        backups: their names; they are kept.
        descendants: runs that were continued from it and do not need it any more.
    """

    run: str
    folder: str
    checkpoints: int
    bytes_freed: int
    bytes_shared: int
    backups: tuple[str, ...]
    descendants: tuple[str, ...]


def check_deletions(runs: Sequence[str], output_dir: Path) -> list[Deletion]:
    """Check that runs may be deleted. Nothing is changed.

    Args:
        runs: names or folders.
        output_dir: where runs are, and those that may depend on them.

    Raises:
        UsageError: there is no such run, it is live, contains files of others, or another
            run needs it.
        Problems: several of these.
    """
    problems: list[Refusal] = []
    folders: dict[Path, RunFolder] = {}
    for run in runs:
        try:
            found = _named(run, output_dir)
            folders[found.path] = found
        except UsageError as error:
            problems.append(error)
    made = list[Deletion]()
    for folder in folders.values():
        try:
            made.append(_check(folder, set(folders), output_dir))
        except UsageError as error:
            problems.append(error)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    return made


def delete_run(deletion: Deletion) -> None:
    """Delete a run, durably, and what earlier deletions left.

    Raises:
        ComeBack: a process took it meanwhile.
        MachineError: it could not be deleted; if it was already renamed, the next one continues.
    """
    run = Path(deletion.folder)
    doomed = run.parent / _DOOMED
    if doomed.is_symlink():
        raise _is_a_link(doomed)
    with exclusive_lock(run / "run.lock", _taken(run)), disk_errors(run):
        doomed.mkdir(exist_ok=True)
        run.rename(unused_path(doomed / run.name))
        sync_folder(doomed)
        sync_folder(run.parent)
    with disk_errors(doomed):
        for folder in list(doomed.iterdir()):
            shutil.rmtree(folder)  # never through a link
        doomed.rmdir()
        sync_folder(run.parent)


def foreign_files(run: Path) -> list[str]:
    """What is in a run's folder and was not made by Headway, by relative path."""
    return sorted(str(path.relative_to(run)) for path in _foreign(run))


def _foreign(run: Path) -> Iterator[Path]:
    for path in run.iterdir():
        if path.is_symlink():
            if path.name != "model":
                yield path
        elif path.is_dir() and path.name == "quarantine":
            for inner in path.iterdir():
                yield from _foreign_in_checkpoint(inner)
        elif path.is_dir() and _CHECKPOINT.fullmatch(path.name):
            yield from _foreign_in_checkpoint(path)
        elif not (path.is_file() and path.name in _FILES) and not _LEFT_BEHIND.fullmatch(path.name):
            yield path


def _foreign_in_checkpoint(folder: Path) -> Iterator[Path]:
    if folder.is_symlink() or not folder.is_dir() or not _CHECKPOINT.fullmatch(folder.name):
        yield folder
        return
    try:
        listed = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest).files.keys()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        listed = None
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        known = path.suffix in _SUFFIXES if listed is None else name in listed
        if path.is_symlink() or not (path.is_dir() or known or name == MANIFEST):
            yield path


def _check(folder: RunFolder, doomed: set[Path], output_dir: Path) -> Deletion:
    run = folder.path
    if is_held(folder.lock):
        raise UsageError(
            f"{run.name} is running",
            cause=Cause.RUN_ACTIVE,
            have="a live process that trains it",
            need="a run that has ended",
            remedies=(Remedy(f"headway stop {shlex.quote(str(run))}", "saves and stops it"),),
        )
    foreign = foreign_files(run)
    if foreign:
        raise _holds_others_files(run, foreign)
    needs, descends = list[Path](), list[Path]()
    for other in list_runs(output_dir):
        place = Path(os.path.abspath(other.path))  # noqa: PTH100 - a link stays a link
        if place not in doomed and (how := _depends(other, run)):
            (needs if how == "needs" else descends).append(place)
    if needs:
        raise _is_needed(run, needs, output_dir)
    freed, shared = _bytes(run)
    return Deletion(
        run.name,
        str(run),
        len(folder.checkpoints()),
        freed,
        shared,
        tuple(backup.name for backup in list_backups(run)),
        tuple(path.name for path in descends),
    )


def _named(run: str, output_dir: Path) -> RunFolder:
    """The run that was named; a checkpoint does not stand for its run here.

    Raises:
        UsageError: there is none, or it is not a folder that Headway made.
    """
    for place in (output_dir / run, Path(run)):
        path = Path(os.path.abspath(place))  # noqa: PTH100 - a link stays a link
        if not is_run(path):
            continue
        if path.is_symlink():
            raise _is_a_link(place)
        if not (_is_a(path / "plan.json", "plan") or _is_a(path / WATCHED, "watched")):
            raise _not_ours(place)
        return RunFolder(path)
    meant = find_run(run, output_dir).path  # raises, unless it is a part of a run
    raise UsageError(
        f"{run} is not a run",
        cause=Cause.RUN_NOT_FOUND,
        have=f"a part of run {meant.name}",
        need="the name or folder of a run",
        remedies=(
            Remedy(f"headway runs --delete {typed_name(meant, output_dir)}", "the whole run"),
        ),
    )


def _is_a(path: Path, kind: str) -> bool:
    """Whether a file says of itself that it is a value of that kind."""
    try:
        schema = json.loads(path.read_bytes())["schema"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return isinstance(schema, str) and schema.startswith(f"headway.{kind}/")


def _depends(other: RunFolder, run: Path) -> str:
    """Whether another run needs this one, or only came from it; "" for neither."""
    try:
        plan = other.plan()
    except UsageError:  # of a newer version: nothing is known of it
        plan = None
    bases = [_base(checkpoint.path) for checkpoint in other.checkpoints()]
    if any(_is_inside(base, run) for base in bases):
        return "needs"
    if plan is None:
        return ""
    parent = plan.model.parent.checkpoint if plan.model.parent else ""
    if not any(_is_inside(path, run) for path in (plan.model.path, parent)):
        return ""
    # To resume, and for adapters for good, the weights that it started from are read.
    return "needs" if plan.model.lora or not other.is_finished else "descends"


def _base(checkpoint: Path) -> str:
    """The model that a checkpoint's adapters belong to; "" if it is a whole model."""
    try:
        return str(json.loads((checkpoint / "adapter_config.json").read_bytes())[_BASE])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


_BASE = "base_model_name_or_path"


def _is_inside(path: str, run: Path) -> bool:
    return bool(path) and Path(path).resolve().is_relative_to(run.resolve())


def _bytes(run: Path) -> tuple[int, int]:
    """Bytes that a deletion frees, and those that other names keep."""
    times: dict[tuple[int, int], int] = {}
    stats = [p.lstat() for p in run.rglob("*") if not p.is_dir() or p.is_symlink()]
    for stat in stats:
        times[stat.st_dev, stat.st_ino] = times.get((stat.st_dev, stat.st_ino), 0) + 1
    sizes = {(stat.st_dev, stat.st_ino): stat for stat in stats}
    freed = sum(s.st_size for key, s in sizes.items() if s.st_nlink <= times[key])
    return freed, sum(s.st_size for s in sizes.values()) - freed


def typed_name(run: Path, output_dir: Path) -> str:
    """A run as it can be typed: its name where runs are by default, its folder elsewhere."""
    return shlex.quote(run.name if output_dir == Path("runs") else str(run))


# -- refusals --------------------------------------------------------------------------------


def _taken(run: Path) -> ComeBack:
    return ComeBack(
        f"{run.name} is being trained or restored",
        cause=Cause.RUN_ACTIVE,
        have="another process",
        need="a run that is not in use",
        remedies=(Remedy(f"headway stop {shlex.quote(str(run))}", "saves and stops it"),),
    )


def _is_a_link(place: Path) -> UsageError:
    return UsageError(
        f"{place} is a link",
        cause=Cause.RUN_NOT_FOUND,
        have=f"a link to {place.resolve()}",
        need="a folder: no link is followed",
        remedies=(Remedy(f"rm {shlex.quote(str(place))}", "removes the link alone"),),
    )


def _not_ours(place: Path) -> UsageError:
    return UsageError(
        f"{place} was not made by Headway",
        cause=Cause.RUN_UNREADABLE,
        have=f"a plan.json that is not a plan, or a {WATCHED} of something else",
        need="the folder of a run",
        remedies=(Remedy("headway runs", "lists the runs"),),
    )


def _holds_others_files(run: Path, foreign: list[str]) -> UsageError:
    more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
    first = shlex.quote(str(run / foreign[0]))
    return UsageError(
        f"{run.name} contains files that Headway did not make",
        cause=Cause.RUN_UNREADABLE,
        have=", ".join(foreign[:3]) + more,
        need="only files of the run; you may need the others",
        remedies=(
            Remedy(f"mv {first} {shlex.quote(str(run.parent))}/", "keeps it, next to the runs"),
        ),
    )


def _is_needed(run: Path, needs: list[Path], output_dir: Path) -> UsageError:
    names = [path.name for path in needs]
    all_of_them = " ".join(typed_name(path, output_dir) for path in (run, *needs))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return UsageError(
        f"{run.name} is needed by {', '.join(names[:3])}{more}",
        cause=Cause.RUN_ACTIVE,
        have="adapters on its weights, or training that continues from them and is not finished",
        need="no run that reads its weights",
        remedies=(Remedy(f"headway runs --delete {all_of_them}", "deletes them all"),),
    )
