"""The Python that measures: the torch that is installed, and a folder of wheels for the rest."""

import importlib.machinery
import importlib.util
import os
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path

_BROUGHT = ("msgspec", "zstandard", "psutil", "rich", "pytest")  # by the wheels
_PRESENT = ("torch", "transformers", "peft")  # on the machine already
COMMAND = "#!{python}\nimport sys\nfrom headway.cli import main\nsys.exit(main())\n"


def complete(root: Path, wheels: Path) -> None:
    """Start this script again in an environment that has everything, if this one has not.

    Args:
        root: of the repository.
        wheels: folder of wheels (`make gpu-wheels`).
    """
    absent = [name for name in _PRESENT if importlib.util.find_spec(name) is None]
    if absent:
        sys.exit(f"{', '.join(absent)}: not installed for {sys.executable}; make gpu PYTHON=...")
    lacking = [name for name in (*_BROUGHT, "headway") if importlib.util.find_spec(name) is None]
    if not lacking:
        return
    folder = root / "build" / "gpu-env"
    if Path(sys.prefix) == folder:
        sys.exit(f"{wheels} does not have all that is needed: no {', '.join(lacking)}")
    if not wheels.is_dir():
        sys.exit(f"{wheels}: no such folder; make gpu-wheels, where there is a network, fills it")
    python = _environment(root, wheels, folder)
    os.execv(python, [str(python), *sys.argv])


def _environment(root: Path, wheels: Path, folder: Path) -> Path:
    """An environment of the wheels, this source and what this Python has; its interpreter."""
    venv.create(folder, clear=True, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-index"]
    pip += ["--no-deps", "--no-compile"]
    told = subprocess.run([*pip, *map(str, sorted(wheels.glob("*.whl")))])
    if told.returncode:  # pip has said why
        version = ".".join(map(str, sys.version_info[:2]))
        sys.exit(f"{wheels}: not for Python {version}? make gpu-wheels GPU_VERSION={version}")
    (site,) = folder.glob("lib/python3*/site-packages")
    others = {str(Path(str(spec.origin)).parents[1]) for spec in map(_spec, _PRESENT)}
    # After the wheels, and so behind them: only what they lack comes from there.
    (site / "zz_rest.pth").write_text("\n".join([str(root / "src"), *sorted(others)]) + "\n")
    command = folder / "bin" / "headway"
    command.write_text(COMMAND.format(python=python))
    command.chmod(0o755)
    return python


def _spec(name: str) -> importlib.machinery.ModuleSpec:
    found = importlib.util.find_spec(name)
    assert found is not None
    return found


def conditions(*, dry: bool) -> dict[str, object]:
    """Where and when."""
    import torch
    import transformers

    said: dict[str, object] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "device": "CPU, a dry run: no figure here says anything of a GPU",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": sys.version.split()[0],
    }
    if not dry:
        if not torch.cuda.is_available():
            sys.exit("no CUDA device: make gpu-dry tries everything on the CPU")
        properties = torch.cuda.get_device_properties(0)
        said["device"] = f"{properties.name}, {properties.total_memory / 1e9:.0f} GB"
        said["CUDA"] = torch.version.cuda
        said["capability"] = torch.cuda.get_device_capability(0)
    return said
