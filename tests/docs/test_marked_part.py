"""The marked part of a page: what is written, compared and refused."""

from pathlib import Path

import pytest
from tests.helpers import docs_script

PAGE = "# Title\n\n<!-- rows -->\nold\n<!-- /rows -->\n\nThe rest.\n"


def test_lines_are_put_between_the_markers() -> None:
    with_part = docs_script("marked_part").with_part
    once = with_part(PAGE, "rows", ["a", "b"])
    assert once == "# Title\n\n<!-- rows -->\na\nb\n<!-- /rows -->\n\nThe rest.\n"
    assert with_part(once, "rows", ["a", "b"]) == once
    for page in ("# Title\n<!-- rows -->\n", "<!-- /rows -->\n<!-- rows -->", "<!-- /rows -->", ""):
        with pytest.raises(ValueError, match="has no"):
            with_part(page, "rows", [])


def test_a_stale_page_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_or_compare = docs_script("marked_part").write_or_compare
    pages = {tmp_path / name: ["a"] for name in ("one.md", "two.md")}
    for path in pages:
        path.write_text(PAGE)
    assert write_or_compare(pages, "rows", ["--check"], "the list") == 1
    assert [path.read_text() for path in pages] == [PAGE, PAGE]
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"{name}: its rows differ from the list: make docs" for name in ("one.md", "two.md")
    ]
    assert write_or_compare(pages, "rows", []) == 0
    assert write_or_compare(pages, "rows", ["--check"]) == 0
