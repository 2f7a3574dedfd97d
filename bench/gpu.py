"""A GPU in eight minutes: is it right, do whole runs work, how fast beside peers, where time goes.

Usage:
    python bench/gpu.py [--dry] [--only ROW ...] [--wheels FOLDER] [--output FOLDER]

Each row runs in processes of its own, so that what fails or hangs costs one row. All of
them share eight minutes: what no longer fits is not run. `--dry` runs the same code on the CPU with
tiny models. Everything is written into one folder, and a table is printed last.
"""

import argparse
import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from device.environment import complete, conditions
from device.rows import Outcome, run_rows
from device.table import page, table

ROOT = Path(__file__).resolve().parents[1]
ALL_S = 480.0  # for everything together, the environment and the table included
DRY_S = 3600.0
_LAST_S = 5.0  # for the table
_BEGAN = "HEADWAY_GPU_BEGAN_S"  # when: this script starts itself again


def main() -> int:
    """Run the rows, write, print; exit code 1 if a row failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="on the CPU, tiny")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW")
    parser.add_argument("--wheels", type=Path, default=ROOT / "build" / "gpu-wheels")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    began_s = float(os.environ.setdefault(_BEGAN, str(time.monotonic())))
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

    end_s = began_s + (DRY_S if asked.dry else ALL_S) - _LAST_S
    outcomes = run_rows(rows, folder, end_s, write)
    print(table(outcomes, compared=not asked.dry), f"\nall files: {folder}", sep="\n")
    return int(any(one.status == "failed" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
