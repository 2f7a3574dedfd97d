"""Write the table of docs/configuration.md: every setting with its default.

Usage:
    python docs/make_settings.py            write the part between its two markers
    python docs/make_settings.py --check    exit 1 when it is not what the code says
"""

import sys
from pathlib import Path

from headway.config.inherited import INHERITED
from headway.config.settings import Settings, printed_name, table

PAGE = Path(__file__).parent / "configuration.md"
BEGIN, END = "<!-- settings -->", "<!-- /settings -->"


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
            print("docs/configuration.md: its table differs from the code: make docs")
        return int(page != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
