"""The script for a GPU: a row costs no other, no time is overdrawn, and it runs here, tiny."""

import importlib
import json
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]
# The rows whose code no other test runs; `make gpu-dry` runs them all.
ROWS = ("products", "chats data", "chats headway", "chats trl", "profile", "qlora trl")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


@dataclass
class Machine:
    """A clock, and rows that take some of its time: at most what they are given."""

    rows: types.ModuleType
    now_s: float = 0.0
    given: list[float] = field(default_factory=list[float])

    def row(self, name: str, share_s: float, takes_s: float, error: Exception | None = None) -> Any:
        def do(folder: Path, left: Callable[[], float]) -> dict[str, float]:
            assert folder.is_dir()
            self.given.append(left())
            self.now_s += min(takes_s, left())
            if error or takes_s > self.given[-1]:
                raise error or TimeoutError(f"did not finish in {self.given[-1]:g} s")
            return {"x": takes_s}

        return self.rows.Row(name, share_s, do)


def test_a_row_that_fails_or_hangs_costs_no_other(load: Load, tmp_path: Path) -> None:
    rows = load("device.rows")
    here, written = Machine(rows), list[int]()
    each = [
        here.row("one", 20, 10, ValueError("broken\nin detail")),
        here.row("two", 20, 0, rows.NotAvailable("needs a GPU")),
        here.row("three", 20, 1e9),
        here.row("four", 20, 20),
    ]
    found = rows.run_rows(
        each, tmp_path, 100, lambda so_far: written.append(len(so_far)), lambda: here.now_s
    )
    assert [(one.status, one.why) for one in found] == [
        ("failed", "broken"),
        ("not available", "needs a GPU"),
        ("failed", "did not finish in 70 s"),  # what nobody needs
        ("ok", ""),
    ]
    assert here.now_s == 100
    assert written == [1, 2, 3, 4]
    assert "in detail" in (tmp_path / "one" / "error.txt").read_text()


@pytest.mark.parametrize(
    ("end_s", "takes_s", "wanted", "given"),
    [
        (100, (1, 1, 1, 1), "ok ok ok ok", [40, 69, 88, 97]),
        (100, (1e9, 1e9, 1e9, 1e9), "failed failed failed failed", [40, 30, 20, 10]),
        (95, (40, 30, 20, 9), "ok ok ok not-run", [45, 35, 25]),  # the last one finds no room
        (95, (40, 30, 15, 9), "ok ok ok ok", [45, 35, 25, 10]),  # unless time is left over
        (79, (40, 29, 0, 10), "ok ok not-run ok", [49, 39, 10]),
        (39, (0, 30, 0, 9), "not-run ok not-run not-run", [39]),
        (9, (0, 0, 0, 0), "not-run not-run not-run not-run", []),
    ],
    ids=["quick", "all hang", "no room", "left over", "a small one", "late", "too late"],
)
def test_the_time_is_shared_out_and_never_overdrawn(
    load: Load,
    tmp_path: Path,
    end_s: float,
    takes_s: tuple[float, ...],
    wanted: str,
    given: list[float],
) -> None:
    rows = load("device.rows")
    here = Machine(rows)
    shares = zip("abcd", (40, 30, 20, 10), takes_s, strict=True)
    each = [here.row(*one) for one in shares]
    found = rows.run_rows(each, tmp_path, end_s, lambda _: None, lambda: here.now_s)
    assert " ".join(one.status.replace(" ", "-") for one in found) == wanted
    assert all(one.why == "no time left" for one in found if one.status == "not run")
    assert here.given == given
    assert here.now_s <= end_s


def test_all_rows_but_the_largest_have_a_share_of_the_eight_minutes(
    load: Load, tmp_path: Path
) -> None:
    everything = load("gpu").ALL_S
    rows = load("device.works").rows_of(tmp_path, dry=False)
    shares = {row.name: row.share_s for row in rows}
    assert everything == 480
    small = sum(share for name, share in shares.items() if not name.startswith("qlora"))
    assert small <= everything - 45  # for the environment
    assert list(shares)[-2:] == ["qlora headway", "qlora trl"]


def test_targets_compare_rows_and_say_nothing_of_a_dry_run(load: Load) -> None:
    table, rows = load("device.table"), load("device.rows")
    found = [
        rows.Outcome("chats headway", "ok", 1, {"answer tokens/s": 30.0, "first step, s": 3.0}),
        rows.Outcome("chats trl", "failed", 1, {}, "it broke"),
        rows.Outcome("chats trainer", "ok", 1, {"answer tokens/s": 10.0, "first step, s": 6.0}),
    ]
    said = {t.what: table.ratio(t, found) for t in table.TARGETS}
    assert said["chats, 0.5B, beside padded Trainer"] == 3.0
    assert said["first step, beside Trainer"] == 0.5
    assert said["chats, 0.5B, beside packed TRL"] is None
    assert "it broke" in table.table(found)
    assert "3.00" in table.table(found)
    assert "3.00" not in table.table(found, compared=False)


def test_pip_installs_a_wheel_that_is_packed_again(load: Load, tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    files = {
        "a/__init__.py": "x = 1\n" * 1000,
        "a-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: a\nVersion: 1\n",
        "a-1.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "a-1.dist-info/RECORD": "a/__init__.py,,\n",
    }
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as made:
        for name, text in files.items():
            made.writestr(name, text)
    load("device.wheels").repack(wheel)
    with zipfile.ZipFile(wheel) as found:
        assert found.infolist()[0].compress_type == zipfile.ZIP_LZMA
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-compile", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run(command, check=True)
    assert (tmp_path / "site" / "a" / "__init__.py").read_text() == files["a/__init__.py"]


@pytest.mark.parametrize("made", [False, True], ids=["no wheels", "wheels that lack something"])
def test_an_environment_that_cannot_be_completed_ends_the_script(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    environment = load("device.environment")
    monkeypatch.setattr(environment, "_BROUGHT", ("surely_not_there",))
    if made:  # the script has started itself again in it: not once more
        monkeypatch.setattr(sys, "prefix", str(tmp_path / "build" / "gpu-env"))
    with pytest.raises(SystemExit) as ended:
        environment.complete(tmp_path, tmp_path / "wheels")
    wanted = "no surely_not_there" if made else "no such folder; make gpu-wheels"
    assert wanted in str(ended.value)


def test_the_environments_own_command_is_headway(load: Load, tmp_path: Path) -> None:
    command = tmp_path / "headway"
    command.write_text(load("device.environment").COMMAND.format(python=sys.executable))
    command.chmod(0o755)
    told = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("headway ")


@pytest.mark.story
@pytest.mark.timeout(1200)  # a dozen processes that each import torch, on whatever machine
def test_it_runs_here_tiny(tmp_path: Path) -> None:
    command = [sys.executable, str(BENCH / "gpu.py"), "--dry", "--output", str(tmp_path / "out")]
    told = subprocess.run([*command, "--only", *ROWS], capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert {row["name"]: row["status"] for row in rows} == {
        name: "not available" if name.startswith("qlora") else "ok" for name in ROWS
    }
    assert "no figure here says anything of a GPU" in told.stdout
    operators = (tmp_path / "out" / "profile" / "operators.txt").read_text()
    assert "aten::mm" in operators
