"""Write the table of docs/configuration.md: every setting with its default.

Usage:
    python docs/make_settings.py            write the part between its two markers
    python docs/make_settings.py --check    exit 1 when it is not what the code says
"""

import sys
from pathlib import Path

from marked_part import write_or_compare

from headway.config.inherited import INHERITED
from headway.config.settings import Settings, printed_name, table

PAGE = Path(__file__).parent / "configuration.md"


def rows() -> list[str]:
    """The lines of the table, in the order of the code's own."""
    lines = ["| setting | also | default | kept by `--continue` | |", "|---|---|---|---|---|"]
    for row in table():
        also = ", ".join(f"`{name}`" for name in row.metadata["also"])
        choices = row.metadata["choices"]
        text = row.metadata["help"] + (f" ({', '.join(choices)})" if choices else "")
        default = shown(getattr(Settings(), row.name))
        kept = INHERITED.get(row.name, "")
        lines.append(f"| `{printed_name(row)}` | {also} | {default} | {kept} | {text} |")
    return lines


def shown(value: object) -> str:
    """A default as it is written in a file; "" where there is none."""
    match value:
        case None:
            return ""
        case bool():
            return f"`{str(value).lower()}`"
        case tuple():
            return ", ".join(f"`{one}`" for one in value)
        case _:
            return f"`{value}`"


def main(arguments: list[str]) -> int:
    """Write the table, or compare it."""
    return write_or_compare({PAGE: rows()}, "settings", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
