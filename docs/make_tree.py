"""Write the tree in the README: every folder of src/headway with its caption, and where to begin.

A caption is the first line of a module's docstring. Only the files that CONTRIBUTING.md names as
reading order are listed; a folder's other files speak for themselves once one is in it.

Usage:
    python docs/make_tree.py            write the part between <!-- tree --> and <!-- /tree -->
    python docs/make_tree.py --check    exit 1 when it is not what the code says
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

from marked_part import write_or_compare

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "headway"
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
COLUMN = 26


def caption(path: Path) -> str:
    """The first line of a module's docstring; "" where it has none."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return (docstring or "").partition("\n")[0].removesuffix(".")


def reading_order() -> list[Path]:
    """The files that CONTRIBUTING.md says to read first, in its order."""
    named = re.findall(r"^\d+\. \[`(src/headway/[\w/]+\.py)`\]", CONTRIBUTING.read_text(), re.M)
    return [ROOT / name for name in named]


def floors() -> list[str]:
    """The folders of the package, from the ground up, as pyproject.toml orders them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = project["tool"]["importlinter"]["contracts"][0]
    names = [name.strip() for layer in reversed(contract["layers"]) for name in layer.split("|")]
    return [name for name in names if (PACKAGE / name).is_dir()]


def tree(package: Path) -> list[str]:
    """The lines of the tree, from the ground up."""
    lines = ["src/headway/"]
    for name in floors():
        lines += folder(package / name, 2)
    tops = sorted(p for p in package.glob("*.py") if not p.name.startswith("__"))
    return lines + [line(2, path.name, caption(path)) for path in tops]


def folder(path: Path, indent: int) -> list[str]:
    """A folder, the files to read first in it, and the folders in it."""
    lines = [line(indent, f"{path.name}/", caption(path / "__init__.py"))]
    named = [file for file in reading_order() if file.parent == path]
    lines += [line(indent + 2, file.name, caption(file)) for file in named]
    inner = sorted(p for p in path.iterdir() if (p / "__init__.py").exists())
    return lines + [one for child in inner for one in folder(child, indent + 2)]


def line(indent: int, name: str, text: str) -> str:
    """One line of the tree."""
    return f"{' ' * indent}{name:{COLUMN - indent}}{text}".rstrip()


def main(arguments: list[str]) -> int:
    """Write the tree, or compare it."""
    return write_or_compare({README: ["```", *tree(PACKAGE), "```"]}, "tree", arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
