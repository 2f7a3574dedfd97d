"""However it is started, what lies in the working folder is data: none of it is imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# Modules that commands import themselves, also late: of Python and of others.
PLANTED = (
    *("random", "queue", "difflib", "textwrap", "tempfile", "statistics", "socket", "shutil"),
    *("torch", "numpy", "msgspec", "rich", "yaml", "psutil", "headway_main", "cli"),
)
STARTS = {
    "headway": [str(Path(sys.executable).with_name("headway"))],
    "python -m headway": [sys.executable, "-m", "headway"],
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("words", "code"), [(["trian"], 2), (["runs"], 0), (["doctor"], None), (["status"], 2)]
)
def test_no_module_is_imported_from_the_working_folder(
    start: str, words: list[str], code: int | None, tmp_path: Path
) -> None:
    for name in PLANTED:
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(77)\n")
    done = subprocess.run(
        [*STARTS[start], *words],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode != 77, "it ran a file of the working folder"
    assert code is None or done.returncode == code, done.stderr


def test_it_is_the_command_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headway", "--version"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("headway ")
