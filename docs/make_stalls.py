"""Write the table of docs/stalls.md: the causes of a stall, what shows each, and what to do.

Usage:
    python docs/make_stalls.py            write the part between its two markers
    python docs/make_stalls.py --check    exit 1 when it is not what the code says
"""

import sys
from pathlib import Path

from headway.diagnose.explain import TABLE

PAGE = Path(__file__).parent / "stalls.md"
BEGIN, END = "<!-- causes -->", "<!-- /causes -->"


def rows() -> list[str]:
    """The lines of the table, in the order in which causes are looked for."""
    lines = ["| cause | what shows it | what to do |", "|---|---|---|"]
    return lines + [f"| `{row.cause}` | {row.seen_by} | {row.fix} |" for row in TABLE]


def with_table(page: str) -> str:
    """The page with the table between its markers."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    block = "\n".join([BEGIN, *rows(), END])
    return f"{before}{block}{after}" if end else page


def main(arguments: list[str]) -> int:
    """Write the table, or compare it."""
    page = PAGE.read_text()
    wanted = with_table(page)
    if "--check" in arguments:
        if page != wanted:
            print("docs/stalls.md: its table differs from the code: make docs")
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
