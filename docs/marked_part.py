"""Marked part of a page: written between two markers by what the code says, or compared with it."""

from pathlib import Path


def with_part(page: str, mark: str, lines: list[str]) -> str:
    """A page with these lines between `<!-- mark -->` and `<!-- /mark -->`.

    Raises:
        ValueError: a marker is missing.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    before, _, rest = page.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"the page has no {begin} ... {end}")
    return "\n".join([f"{before}{begin}", *lines, f"{end}{after}"])


def write_or_compare(
    parts: dict[Path, list[str]], mark: str, arguments: list[str], source: str = "the code"
) -> int:
    """Write the part of each page; with `--check` compare it, and say which page differs.

    Args:
        parts: the lines by page.
        mark: the name of the part.
        arguments: of the command.
        source: where the lines come from.

    Returns:
        The exit code: 1 if a page differs.
    """
    differ = 0
    for path, lines in parts.items():
        page = path.read_text()
        wanted = with_part(page, mark, lines)
        if "--check" not in arguments:
            path.write_text(wanted)
        elif page != wanted:
            print(f"{path.name}: its {mark} differ from {source}: make docs")
            differ = 1
    return differ
