"""What verify, backup and restore show, in any width; and that none of them is ever silent."""

from pathlib import Path
from typing import Any

import pytest

from headway.runs.archive.backup import Backup, BackupInfo
from headway.runs.archive.restore import Restored
from headway.runs.verification.verify import Claim, Verification
from headway.ui.show_archives import (
    backup_lines,
    backups_table,
    restored_lines,
    verification_lines,
)
from headway.ui.text_layout import cells

LINE = "kept: 12 of 12 steps, 48 rows once each · improved: 2.41 -> 1.37"
JUDGED = {
    "verdict": "broken",
    "reasons": ["1 of 2 planned updates applied", "a loss is not finite"],
}


def verification(*claims: Claim) -> Verification:
    holds = all(claim.holds is not False for claim in claims)
    return Verification("headway.verification/1", "notes", "runs/notes", holds, LINE, claims)


def backup(name: str = "20260102-030405-manual", **made: Any) -> Backup:
    values: dict[str, Any] = {
        "schema": "headway.backup/1",
        "run": "notes",
        "type": "manual",
        "note": "",
        "at": "2026-01-02T03:04:05+00:00",
        "version": "1",
        "model": "checkpoint-12",
        "live": False,
    }
    path = Path("runs/.backups/notes") / name
    return Backup(path, BackupInfo(**values | made), 1_500_000_000, 200_000)


HOLDS = Claim("rows.trained", 48, 48, "the order", True)
DIFFERS = Claim("rows.trained", 19_900, 19_892, "the order", False)
WORSE = Claim("contract", JUDGED, {"verdict": "kept", "reasons": []}, "the facts", False)
OPEN = Claim("tensors.changed", 21, None, "needs the weights that the job began with", None)


def test_a_receipt_that_holds_is_told_with_what_was_left_open() -> None:
    assert verification_lines(verification(HOLDS, HOLDS, OPEN), 80) == [
        "notes: the receipt holds · 2 claims recomputed",
        LINE,
        "",
        "not recomputed:",
        "  tensors.changed · needs the weights that the job began with",
    ]


def test_a_difference_shows_both_values() -> None:
    assert verification_lines(verification(HOLDS, DIFFERS, WORSE), 80) == [
        "notes: the receipt does not match its folder · 2 of 3 claims wrong",
        "",
        "rows.trained",
        "  claimed    19,900",
        "  the order  19,892",
        "",
        "contract",
        "  claimed    broken; 1 of 2 planned updates applied; a loss is not finite",
        "  the facts  kept",
    ]


def test_a_backup_says_how_to_go_back_to_it() -> None:
    lines = backup_lines(backup(live=True), ["checkpoint-9/config.json", "b"], 80)
    assert lines == [
        "backed up notes as 20260102-030405-manual · checkpoint-12",
        "1.5 GB, 200.0 kB of it not shared",
        "the run is still training: this is its newest intact checkpoint",
        "! checkpoint-9/config.json and 1 more: damaged before the backup; copied as is",
        "headway restore notes 20260102-030405-manual",
    ]


def test_a_restore_says_where_what_was_there_is() -> None:
    kept = backup("20260103-000000-pre_restore")
    assert restored_lines(Restored(Path("runs/notes"), backup(), kept), 100) == [
        "restored notes from 20260102-030405-manual · checkpoint-12",
        "its previous state is backed up as 20260103-000000-pre_restore",
    ]
    assert len(restored_lines(Restored(Path("runs/notes"), backup(), None), 100)) == 1


def test_backups_are_a_table_with_their_notes() -> None:
    found = {Path("runs/notes"): [backup(note="before\nI try"), backup("2-b", model="")]}
    assert backups_table(found, 80) == [
        "run    backup                  checkpoint    size  not shared",
        "notes  20260102-030405-manual          12  1.5 GB    200.0 kB",
        "  before↵I try",
        "notes  2-b                              -  1.5 GB    200.0 kB",
        "",
        "2 backups, 400.0 kB not shared with the runs",
    ]


@pytest.mark.parametrize("width", [40, 57, 80, 120])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    lines = [
        *verification_lines(verification(HOLDS, DIFFERS, WORSE, OPEN), width),
        *restored_lines(Restored(Path("runs/notes"), backup(), backup()), width),
        *backups_table({Path("runs/notes"): [backup(note="n" * 200)]}, width),
        *backup_lines(backup(live=True), ["c" * 60], width)[:-1],  # the last is to be copied
    ]
    assert max(map(cells, lines)) <= width
