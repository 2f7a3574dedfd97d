"""The script for a GPU: a row costs no other, no time is overdrawn, and it runs here, tiny."""

import importlib
import json
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
Load = Callable[[str], types.ModuleType]
# The rows whose code no other test runs; `make gpu-dry` runs them all.
ROWS = ("products", "chats data", "chats headway", "chats trl", "profile", "qlora trl")


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.syspath_prepend(BENCH)
    return importlib.import_module


def test_a_row_that_fails_or_has_no_time_costs_no_other(load: Load, tmp_path: Path) -> None:
    rows, now, given = load("device.rows"), [0.0], list[float]()

    def takes(seconds: float, error: Exception | None = None) -> Callable[..., dict[str, float]]:
        def do(folder: Path, limit_s: float) -> dict[str, float]:
            assert folder.is_dir()
            given.append(limit_s)
            now[0] += seconds
            if error:
                raise error
            return {"x": seconds}

        return do

    each = [
        rows.Row("one", 50, takes(10, ValueError("broken\nin detail"))),
        rows.Row("two", 50, takes(0, rows.NotAvailable("needs a GPU"))),
        rows.Row("three", 50, takes(50)),
        rows.Row("four", 50, takes(37)),
        rows.Row("five", 50, takes(1)),
    ]
    written: list[int] = []
    found = rows.run_rows(
        each, tmp_path, 100, lambda so_far: written.append(len(so_far)), lambda: now[0]
    )
    assert [(one.status, one.why) for one in found] == [
        ("failed", "broken"),
        ("not available", "needs a GPU"),
        ("ok", ""),
        ("ok", ""),
        ("left out", "no time was left"),
    ]
    assert given == [50, 50, 50, 40]
    assert written == [1, 2, 3, 4, 5]
    assert "in detail" in (tmp_path / "one" / "error.txt").read_text()


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


def test_a_wheel_that_is_packed_again_has_the_same_in_it(load: Load, tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a/__init__.py", "x = 1\n" * 1000)
    load("device.wheels").repack(wheel)
    with zipfile.ZipFile(wheel) as found:
        assert found.read("a/__init__.py") == b"x = 1\n" * 1000
        assert found.infolist()[0].compress_type == zipfile.ZIP_LZMA


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
