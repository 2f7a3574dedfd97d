"""`pip install headway` without extras: what only looks works, the rest says what to install."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

from headway.cli import VERBS

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "tests" / "failures" / "releases" / "0.1.0"  # a finished run
INSTALL = "pip install 'headway[train]'"
LIGHT = {
    "runs": (),
    "status": ("notes",),
    "logs": ("notes",),
    "stop": ("notes",),
    "diagnose": ("notes",),
    "guard": ("echo", "done"),
    "backup": ("notes",),
    "restore": ("notes",),
    "check": ("runs/notes",),
    "doctor": (),
    "convert": ("axolotl.yml",),
    "completion": ("bash",),
    "inbox": ("status", "."),
}
HEAVY = {
    "demo": (),
    "plan": ("notes.txt",),
    "train": ("notes.txt", "--preset", "tiny"),
    "generate": ("notes", "--prompt", "a"),
    "chat": ("notes",),
    "eval": ("notes", "notes.txt"),
    "verify": ("notes",),
    "export": ("notes", "--to", "hf"),
    "finetune": ("notes.txt", "--to", "hf"),
    "worker": ("notes",),
}


def light_packages() -> set[str]:
    """What pyproject.toml asks for without any extra, and what that needs in turn."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names, todo = set[str](), [re.split(r"[<>=]", one)[0] for one in project["dependencies"]]
    while todo:
        name = todo.pop()
        names.add(name)
        needs = importlib.metadata.requires(name) or []
        todo += [re.split(r"[<>=!~; (]", one)[0] for one in needs if "extra ==" not in one]
    return names


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the light packages alone; nothing is downloaded."""
    home = tmp_path_factory.mktemp("bare")
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    site = next((home / "lib").glob("python*")) / "site-packages"
    for name in light_packages():
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}
        for top in tops - {"__pycache__"}:
            (site / top).symlink_to(str(distribution.locate_file(top)))
        for file in distribution.files or ():
            if file.parts[-2:] == ("bin", "py-spy"):  # a program, not a module
                (home / "bin" / "py-spy").symlink_to(str(distribution.locate_file(file)))
    (site / "headway.pth").write_text(f"{ROOT / 'src'}\n")
    return python


@pytest.fixture
def here(tmp_path: Path) -> Path:
    place = tmp_path / "here"
    place.mkdir()
    (place / "notes.txt").write_text("a few words of text\n")
    (place / "axolotl.yml").write_text("base_model: m\nsequence_len: 64\n")
    shutil.copytree(RELEASE / "notes", place / "runs" / "notes")
    return place


def run(python: Path, here: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    command = [str(python), "-m", "headway", *words]
    return subprocess.run(
        command,
        cwd=here,
        env=environment | {"COLUMNS": "200", "XDG_CACHE_HOME": str(here / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_verb_is_either_light_or_heavy() -> None:
    assert {*LIGHT, *HEAVY} == set(VERBS)


def test_nothing_heavy_is_there(bare: Path, here: Path) -> None:
    code = "import importlib.util as u; print([n for n in ('numpy', 'torch') if u.find_spec(n)])"
    assert subprocess.check_output([str(bare), "-c", code], text=True) == "[]\n"


@pytest.mark.parametrize("verb", LIGHT)
def test_what_only_looks_works(bare: Path, here: Path, verb: str) -> None:
    if verb == "restore":
        assert run(bare, here, "backup", *LIGHT["backup"]).returncode == 0
    done = run(bare, here, verb, *LIGHT[verb])
    assert done.returncode == (5 if verb == "doctor" else 0), done.stderr
    assert done.stdout
    assert done.stderr == "" or verb in ("backup", "restore")  # which show their progress there
    assert "Traceback" not in done.stderr


def test_an_inbox_that_trains_needs_the_trainer(bare: Path, here: Path) -> None:
    done = run(bare, here, "inbox", "start", ".", "--preset", "tiny")
    assert (done.returncode, f"try   {INSTALL}" in done.stderr) == (2, True), done.stderr
    assert not (here / ".headway").exists()


@pytest.mark.parametrize("verb", HEAVY)
def test_what_needs_the_trainer_says_what_to_install(bare: Path, here: Path, verb: str) -> None:
    done = run(bare, here, verb, *HEAVY[verb])
    assert done.returncode == 2
    told = done.stderr.splitlines()
    assert told[0] == f"headway {verb} needs packages that are not installed"
    assert [line.split()[0] for line in told[1:4]] == ["have", "need", "try"]
    assert f"try   {INSTALL}" in done.stderr
    assert "numpy" in told[1]


def test_the_doctor_names_what_is_missing(bare: Path, here: Path) -> None:
    out = run(bare, here, "doctor").stdout
    assert "missing: httpx2, huggingface-hub, jinja2, numpy, peft, safetensors" in out
    assert f"try  {INSTALL}" in out


def test_any_process_is_diagnosed_with_its_stack(bare: Path, here: Path) -> None:
    code = "def stand_still():\n    print(flush=True)\n    input()\nstand_still()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        done = run(bare, here, "diagnose", "--pid", str(process.pid))
        process.kill()
    assert done.stderr == ""
    assert f"process {process.pid}" in done.stdout
    assert "stand_still" in done.stdout


def test_the_python_interface_says_it_too(bare: Path, here: Path) -> None:
    code = "import headway\ntry: headway.plan('notes.txt')\nexcept Exception as e: print(e)"
    out = subprocess.check_output([str(bare), "-c", code], text=True, cwd=here)
    assert f"try   {INSTALL}" in out


def test_the_callback_says_it_too_and_the_rest_does_not_need_it(bare: Path, here: Path) -> None:
    code = "import headway; print(headway.__version__)\ntry: headway.HeadwayCallback\n"
    code += "except Exception as e: print(type(e).__name__, e)"
    out = subprocess.check_output([str(bare), "-c", code], text=True, cwd=here)
    assert "UsageError transformers is not installed" in out
    assert f"try   {INSTALL}" in out
