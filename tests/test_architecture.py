"""The rules of the house: floors, captions, lengths, and a lock that holds what it should."""

import ast
import importlib.util
import re
import tomllib
import types
from pathlib import Path

import pytest
from importlinter import cli

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "headway"
MODULES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400  # lines of a file
LOCK = (ROOT / "requirements" / "lock.txt").read_text()


def script(name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_tree() -> types.ModuleType:
    return script("make_tree")


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def test_imports_only_go_down(capsys: pytest.CaptureFixture[str]) -> None:
    passed = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert passed == 0, capsys.readouterr().out


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_opens_with_a_caption(path: Path) -> None:
    caption, *rest = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")
    assert caption
    assert caption.endswith(".")
    assert not rest or rest[0] == "", "the caption is one line"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_too_long_to_read(path: Path) -> None:
    num_lines = len(path.read_text().splitlines())
    assert num_lines <= LONGEST


# -- the tree in the README


def test_the_tree_names_every_module_once() -> None:
    tree = "\n".join(make_tree().tree(PACKAGE))
    names = re.findall(r"^ +(\w+\.py)", tree, re.MULTILINE)
    assert sorted(names) == sorted(p.name for p in MODULES if not p.name.startswith("__"))


def test_the_tree_stars_the_rooms_that_import_torch() -> None:
    tree = "\n".join(make_tree().tree(PACKAGE))
    assert re.search(r"optim\.py \* ", tree)
    assert re.search(r"settings\.py  ", tree)


def test_the_tree_is_put_between_its_markers() -> None:
    made = make_tree()
    readme = "# Title\n\n<!-- tree -->\nold\n<!-- /tree -->\n\nThe rest.\n"
    once = made.with_tree(readme, ["src/", "  a.py"])
    assert once == (
        "# Title\n\n<!-- tree -->\n```\nsrc/\n  a.py\n```\n<!-- /tree -->\n\nThe rest.\n"
    )
    assert made.with_tree(once, ["src/", "  a.py"]) == once
    with pytest.raises(ValueError, match="has no"):
        made.with_tree("# Title\n<!-- tree -->\n", [])


def test_a_stale_tree_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_tree()
    monkeypatch.setattr(made, "README", tmp_path / "README.md")
    (tmp_path / "README.md").write_text("<!-- tree --><!-- /tree -->")
    assert made.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().out
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0


# -- the table of settings


def test_the_table_of_settings_is_what_the_code_says() -> None:
    assert script("make_settings").main(["--check"]) == 0, "run: make docs"


def test_a_stale_table_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = script("make_settings")
    page = tmp_path / "configuration.md"
    page.write_text("# Before\n<!-- settings -->\nold\n<!-- /settings -->\nafter\n")
    monkeypatch.setattr(made, "PAGE", page)
    assert made.main(["--check"]) == 1
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0
    assert page.read_text().startswith("# Before\n<!-- settings -->\n| setting |")
    assert page.read_text().endswith("|\n<!-- /settings -->\nafter\n")


# -- the lock


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", LOCK, re.MULTILINE))


def test_f64_every_locked_package_has_hashes() -> None:
    for block in re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.MULTILINE)[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_the_lock_holds_all_that_pyproject_asks_for_but_torch() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    wanted = [
        *(project["build-system"]["requires"] + project["project"]["dependencies"]),
        # What the measurements stand beside is pinned there, and nothing that Headway needs.
        *(one for name, extra in extras.items() if not name.startswith("bench") for one in extra),
    ]
    names = {re.split(r"[<>=\[ ]", one)[0] for one in wanted} - {"headway", "torch"}
    assert sorted(names - locked().keys()) == []


def test_the_lock_leaves_the_choice_of_torch_open() -> None:
    brought = [n for n in locked() if n in ("torch", "triton") or n.startswith(("nvidia", "cuda"))]
    assert brought == []


def test_the_lock_names_no_host_and_no_folder() -> None:
    assert re.findall(r"https?://|file:/|--index|--find|/home|/tmp", LOCK) == []
