"""Write the tree of the README: every module under src/headway with its caption.

A module's caption is the first line of its docstring; `*` marks the rooms that import torch.

Usage:
    python docs/make_tree.py            write the part between <!-- tree --> and <!-- /tree -->
    python docs/make_tree.py --check    exit 1 when it is not what the code says
"""

import ast
import functools
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "headway"
README = ROOT / "README.md"
BEGIN, END = "<!-- tree -->", "<!-- /tree -->"
FLOORS = ("base", "data", "model", "trainer", "run", "export", "integrations")
COLUMN = 24


def caption(path: Path) -> str:
    """The first line of a module's docstring; "" where it has none."""
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    return (docstring or "").partition("\n")[0].removesuffix(".")


@functools.cache  # a module is imported by many
def imports_torch(path: Path) -> bool:
    """Whether loading or calling a module loads torch, itself or through others of ours."""
    parsed = ast.parse(path.read_text())
    inside = {name.partition(".")[0] for name in imported(ast.walk(parsed))}
    if inside & {"torch", "transformers", "peft"}:
        return True
    ours = [n for n in imported(iter(parsed.body)) if n.startswith("headway.")]
    files = [PACKAGE.parent / f"{name.replace('.', '/')}.py" for name in ours]
    return any(imports_torch(file) for file in files if file.exists())


def imported(nodes: Iterator[ast.AST]) -> list[str]:
    """The modules that these statements import."""
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def tree(package: Path) -> list[str]:
    """The lines of the tree: the floors from the ground up, then what stands on them.

    Inside a floor the files stand in the order that pyproject.toml lets them import one another;
    those that it does not order follow by name.
    """
    lines = ["src/headway/"]
    floors = [package / name for name in FLOORS if (package / name).is_dir()]
    rest = sorted(p for p in package.iterdir() if p.is_dir() and p.name not in FLOORS)
    for folder in [*floors, *(p for p in rest if (p / "__init__.py").exists())]:
        lines.append(line(2, f"{folder.name}/", caption(folder / "__init__.py")))
        lines += [line(4, named(p), caption(p)) for p in modules(folder)]
    lines += [line(2, named(p), caption(p)) for p in modules(package)]
    return lines


def modules(folder: Path) -> list[Path]:
    """The modules right in a folder, those that others stand on first."""
    order = {name: i for i, name in enumerate(ordered_modules())}
    found = [p for p in folder.glob("*.py") if not p.name.startswith("__")]
    return sorted(found, key=lambda p: (order.get(f"{folder.name}.{p.stem}", len(order)), p.name))


def ordered_modules() -> list[str]:
    """`floor.module` of every module that pyproject.toml orders, from the ground up."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers: list[str] = []
    for contract in project["tool"]["importlinter"]["contracts"]:
        for layer in reversed(contract.get("layers", [])):
            layers += [name.strip().removeprefix("headway.") for name in layer.split("|")]
    return [name for name in layers if "." in name]


def named(path: Path) -> str:
    """A module's name, starred where it imports torch."""
    return f"{path.name} *" if imports_torch(path) else path.name


def line(indent: int, name: str, text: str) -> str:
    """One line of the tree."""
    return f"{' ' * indent}{name:{COLUMN - indent}}{text}".rstrip()


def with_tree(readme: str, lines: list[str]) -> str:
    """The README with the tree between its markers.

    Raises:
        ValueError: a marker is missing.
    """
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    if END not in rest:
        raise ValueError(f"README.md has no {BEGIN} ... {END}")
    block = "\n".join(["```", *lines, "```"])
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Write the tree, or compare it."""
    readme = README.read_text()
    wanted = with_tree(readme, tree(PACKAGE))
    if "--check" in arguments:
        if readme != wanted:
            print("README.md: its tree differs from the code: make docs")
        return int(readme != wanted)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
