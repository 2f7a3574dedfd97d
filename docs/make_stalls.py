"""Write the table of docs/stalls.md: the causes of a stall, what shows each, and what to do.

Usage:
    python docs/make_stalls.py            write the part between its two markers
    python docs/make_stalls.py --check    exit 1 when it is not what the code says
"""

import sys
from pathlib import Path

from marked_part import write_or_compare

from headway.diagnose.explain import TABLE

PAGE = Path(__file__).parent / "stalls.md"


def rows() -> list[str]:
    """The lines of the table, in the order in which causes are looked for."""
    lines = ["| cause | what shows it | what to do |", "|---|---|---|"]
    return lines + [f"| `{row.cause}` | {row.seen_by} | {row.fix} |" for row in TABLE]


def main(arguments: list[str]) -> int:
    """Write the table, or compare it."""
    return write_or_compare({PAGE: rows()}, "causes", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
