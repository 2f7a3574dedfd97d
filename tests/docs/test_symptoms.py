"""Pages about symptoms: they are found, they are short, and what they say to type can be typed."""

import re
import shlex
from pathlib import Path

import pytest

from headway.cli import VERBS
from headway.config.command_line import parse

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "symptoms"
INDEX = FOLDER / "README.md"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path != INDEX)
LINK = re.compile(r"\]\(([^)#]+)\)")


def blocks(page: Path) -> list[str]:
    """What stands between fences, block by block."""
    return re.findall(r"^```\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of a page that are typed."""
    return [
        line for block in blocks(page) for line in block.splitlines() if line.startswith("headway ")
    ]


def titles() -> dict[str, str]:
    return {path.name: path.read_text().splitlines()[0].removeprefix("# ") for path in PAGES}


def test_the_index_has_every_page_under_its_title_in_order() -> None:
    listed = re.findall(r"^\| \[(.+)\]\((.+)\) \|$", INDEX.read_text(), re.MULTILINE)
    assert {name: title for title, name in listed} == titles()
    assert [title for title, _ in listed] == sorted(titles().values(), key=str.lower)
    assert len(PAGES) >= 16


@pytest.mark.parametrize("page", [INDEX, *PAGES], ids=lambda path: path.stem)
def test_links_lead_somewhere(page: Path) -> None:
    there = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in there if not (FOLDER / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_is_short_and_ends_with_the_command_that_shows_it(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert 15 <= len(lines) <= 45
    assert max(map(len, lines)) <= 120
    assert lines[-1] == "```"
    assert blocks(page)[-1].splitlines()[-1].startswith("headway ")
    for part in ("**Why.**", "**Tell in a minute.**", "**What to change.**"):
        assert part in page.read_text() or page.stem == "training-stuck-at-0"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_command_can_be_typed(page: Path) -> None:
    assert commands(page)
    for command in commands(page):
        _, name, *words = shlex.split(command)
        assert name in VERBS, command
        verb = VERBS[name]
        ours = words[: words.index("--")] if "--" in words else words
        arguments = parse(ours, verb.options, settings=verb.settings)
        if verb.settings:
            arguments.settings()
