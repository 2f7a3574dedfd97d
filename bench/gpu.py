"""A GPU in eight minutes: is it right, do whole runs work, how fast beside peers, where time goes.

Usage:
    python bench/gpu.py [--dry] [--only ROW ...] [--wheels FOLDER] [--output FOLDER]

Each row runs in processes of its own with its own limit, so that what fails or hangs costs one row.
`--dry` runs the same code on the CPU with tiny models. Everything is written into one folder, and a
table is printed last.
"""

import argparse
import json
import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from device.environment import complete, conditions
from device.rows import Outcome, run_rows
from device.table import page, table

ROOT = Path(__file__).resolve().parents[1]
ALL_S = 480.0  # for everything together


def main() -> int:
    """Run the rows, write, print; exit code 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW")
    parser.add_argument("--wheels", type=Path, default=ROOT / "build" / "gpu-wheels")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    began_s = time.monotonic()
    complete(ROOT, asked.wheels)
    from device.works import rows_of  # imports what the wheels bring

    folder = asked.output or ROOT / "build" / f"gpu-{datetime.now(UTC):%Y-%m-%dT%H%M%S}"
    folder.mkdir(parents=True)
    all_rows = rows_of(folder, dry=asked.dry, all_rows=bool(asked.only))
    rows = [row for row in all_rows if not asked.only or row.name in asked.only]
    if not rows:
        parser.error(f"no row is named {' or '.join(asked.only)}")
    said = {"dry": asked.dry, **conditions(dry=asked.dry)}

    def write(outcomes: list[Outcome]) -> None:
        told = {"conditions": said, "rows": [vars(one) for one in outcomes]}
        (folder / "results.json").write_text(json.dumps(told, indent=2) + "\n")
        (folder / "table.md").write_text(page(said, outcomes, compared=not asked.dry))

    outcomes = run_rows(rows, folder, math.inf if asked.dry else began_s + ALL_S, write)
    print(table(outcomes, compared=not asked.dry), f"\nall files: {folder}", sep="\n")
    return int(any(one.status == "failed" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
