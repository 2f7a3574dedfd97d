"""Display of verifications, backups and restores."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headway.base.units import plural, size
from headway.runs.archive.backup import Backup
from headway.runs.archive.deletion import Deletion
from headway.runs.archive.restore import Restored
from headway.ui.text_layout import cells, cut, flow, fold, one_line, printable, table

if TYPE_CHECKING:
    from headway.runs.verification.verify import Claim, Verification  # which needs numpy


def verification_lines(found: "Verification", width: int) -> list[str]:
    """The verdict, every claim that differs, and the claims that could not be recomputed."""
    num = len(found.claims) - len(found.unchecked)
    if found.holds:
        claims = plural(num, "claim")
        lines = flow([f"{found.run}: the receipt holds", f"{claims} recomputed"], width)
        lines += flow([found.line], width)
    else:
        wrong = f"{len(found.differences)} of {plural(num, 'claim')} wrong"
        lines = flow([f"{found.run}: the receipt does not match its folder", wrong], width)
        for claim in found.differences:
            lines += ["", *_difference(claim, width)]
    if found.unchecked:
        lines += ["", "not recomputed:"]
        lines += [
            f"  {line}" for one in found.unchecked for line in flow([one.name, one.by], width - 2)
        ]
    return lines


def _difference(claim: "Claim", width: int) -> list[str]:
    rows = [("  claimed", _value(claim.claimed)), (f"  {claim.by}", _value(claim.found))]
    column = max(cells(label) for label, _ in rows)
    lines = [claim.name]
    for label, value in rows:
        first, *rest = fold(value, max(width - column - 2, 20))
        lines.append(f"{label}{' ' * (column - cells(label))}  {first}")
        lines += [f"{'':{column}}  {line}" for line in rest]
    return lines


def _value(value: Any) -> str:
    """A number with separators; a judgment as its verdict and reasons."""
    match value:
        case bool() | None:
            return str(value).lower()
        case int():
            return f"{value:,}"
        case {"verdict": verdict, "reasons": reasons}:
            return "; ".join([str(verdict), *map(str, reasons)])
        case dict():
            pairs = (f"{_value(v)} {k}" for k, v in value.items())
            return ", ".join(pairs) or "none"
        case _:
            return printable(str(value))


def backup_lines(backup: Backup, damaged: Sequence[str], width: int) -> list[str]:
    """What was backed up, and the command that restores it."""
    made = backup.made
    facts = [f"backed up {made.run} as {backup.name}"]
    facts += [made.model] if made.model else ["no checkpoint yet"]
    facts.append(f"{size(backup.bytes)}, {size(backup.own_bytes)} of it not shared")
    lines = flow(facts, width)
    if made.live:
        lines += flow(["the run is still training: this is its newest intact checkpoint"], width)
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        lines += flow([f"! {damaged[0]}{more}: damaged before the backup; copied as is"], width)
    return [*lines, f"headway restore {made.run} {backup.name}"]


def restored_lines(restored: Restored, width: int) -> list[str]:
    """The state of the run now, and the backup of its previous state."""
    backup, kept = restored.backup, restored.kept
    facts = [f"restored {restored.run.name} from {backup.name}"]
    facts += [backup.made.model] if backup.made.model else []
    lines = flow(facts, width)
    return lines + (
        flow([f"its previous state is backed up as {kept.name}"], width) if kept else []
    )


def backups_table(found: Mapping[Path, Sequence[Backup]], width: int) -> list[str]:
    """One line per backup, its note below it; the oldest of a run first."""
    every = [one for backups in found.values() for one in backups]
    rows = [["run", "backup", "checkpoint", "size", "not shared"]]
    rows += [
        [
            printable(one.made.run),
            one.name,
            one.made.model.removeprefix("checkpoint-") or "-",
            size(one.bytes),
            size(one.own_bytes),
        ]
        for one in every
    ]
    head, *lines = table(rows, right=(2, 3, 4))
    shown = [head]
    for one, line in zip(every, lines, strict=True):
        shown += [line, f"  {one_line(one.made.note)}"] if one.made.note else [line]
    own = sum(one.own_bytes for one in every)
    end = f"{plural(len(every), 'backup')}, {size(own)} not shared with the runs"
    return [*(cut(line, width) for line in shown), "", *flow([end], width)]


def deletion_lines(found: Deletion, width: int) -> list[str]:
    """What deleting a run would delete, what it frees, and what stays."""
    facts = [f"{found.run}: {found.folder}", plural(found.checkpoints, "checkpoint")]
    facts.append(f"frees {size(found.bytes_freed)}")
    return [*flow(facts, width), *_remaining(found, width)]


def deleted_lines(done: Deletion, width: int) -> list[str]:
    """What was deleted, and what is left of it."""
    freed = f"{size(done.bytes_freed)} freed"
    return [*flow([f"deleted {done.run}", freed], width), *_remaining(done, width)]


def _remaining(found: Deletion, width: int) -> list[str]:
    lines: list[str] = []
    if found.backups:
        kept = [f"{plural(len(found.backups), 'backup')} kept"]
        kept += [f"{size(found.bytes_shared)} shared with them"] if found.bytes_shared else []
        lines += [f"  {line}" for line in flow(kept, width - 2)]
        run = Path(found.folder)
        is_usual = run.parent == Path("runs").absolute()
        typed = shlex.quote(found.run if is_usual else found.folder)
        lines.append(f"  headway restore {typed} {found.backups[-1]}")
    if found.descendants:
        names = ", ".join(map(printable, found.descendants))
        lines += [
            f"  {line}"
            for line in flow([f"continued by {names}, which has its own weights"], width - 2)
        ]
    return lines
