"""The Dockerfile: its instructions, its shell commands, and that what it copies suffices."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.examples.commands import EXAMPLES

ROOT = EXAMPLES.parent
FILE = EXAMPLES / "Dockerfile"
KNOWN = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with its arguments, continued lines as one."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined.splitlines()]


@pytest.fixture(scope="module")
def parts() -> list[tuple[str, str]]:
    return instructions(FILE.read_text())


def test_it_begins_with_an_image_and_has_only_instructions(parts: list[tuple[str, str]]) -> None:
    assert parts[0][0] == "FROM"
    assert {name for name, _ in parts} <= KNOWN
    assert parts[-1][0] == "CMD"
    order = [name for name, _ in parts]
    assert order.index("USER") > max(at for at, name in enumerate(order) if name == "RUN")


def test_its_shell_commands_are_sound(parts: list[tuple[str, str]]) -> None:
    assert shutil.which("shellcheck"), "install the Debian package shellcheck"
    variables = [rest.partition("=")[0] for name, rest in parts if name == "ARG"]
    head = "".join(f"{name}=${{{name}:?}}\n" for name in variables)
    script = "#!/bin/sh\nset -e\n" + head + "\n".join(rest for name, rest in parts if name == "RUN")
    done = subprocess.run(
        ["shellcheck", "--shell=sh", "-"], input=script, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_it_installs_the_torch_and_the_python_that_are_tested(
    parts: list[tuple[str, str]],
) -> None:
    arguments = dict(rest.split("=", 1) for name, rest in parts if name == "ARG")
    makefile = (ROOT / "Makefile").read_text()
    assert f"TORCH := torch=={arguments['TORCH']}\n" in makefile
    version = re.search(r"python:(\d+)\.(\d+)", parts[0][1])
    assert version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    least = project["requires-python"].removeprefix(">=").split(".")
    assert tuple(map(int, version.groups())) >= tuple(map(int, least))
    packages = (ROOT / ".ci" / "run").read_text()
    assert "libtcmalloc-minimal4" in packages  # the same package as where the tests run


def test_what_it_copies_is_all_that_the_package_is_built_from(
    parts: list[tuple[str, str]], tmp_path: Path
) -> None:
    copied = [rest.split()[:-1] for name, rest in parts if name == "COPY"]
    names = [name for group in copied for name in group]
    let_in = (EXAMPLES / "Dockerfile.dockerignore").read_text().splitlines()
    assert let_in == ["*", *(f"!{name}" for name in names)]
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run(
        [*pip, "--quiet", "--wheel-dir", "out", "."], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tmp_path / "out").iterdir()
    built = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    assert modules <= built
