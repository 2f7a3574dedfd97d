"""Failures beside other trainers: the same judgment for everybody, and a page that says it."""

import importlib
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
Load = Callable[[str], types.ModuleType]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    for folder in ("bench/peers", "bench"):
        monkeypatch.syspath_prepend(ROOT / folder)
    return importlib.import_module


def facts(load: Load, **changes: Any) -> Any:
    """What a run came to that went well."""
    well = load("failures.systems").Facts(
        exit_code=0,
        seconds=9.0,
        output="",
        steps=60,
        moved=True,
        finite=True,
        saved=60,
        address_space=0,
        notes={},
    )
    return replace(well, **changes)


def test_every_case_is_of_the_list_and_comes_once(load: Load) -> None:
    cases = load("failures.cases").CASES
    groups = yaml.safe_load((ROOT / "docs" / "failures.yaml").read_text())
    known = {mode["id"] for group in groups for mode in group["modes"]}
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids) >= 12
    assert set(ids) <= known


@pytest.mark.parametrize(
    ("judge", "changes", "handled", "lost"),
    [
        ("trains_or_says", {}, True, "nothing"),
        ("trains_or_says", {"moved": False}, False, "nothing learned in 60 steps"),
        ("trains_or_says", {"finite": False}, False, "all weights are NaN in 60 steps"),
        ("trains_or_says", {"finite": False, "exit_code": 4}, False, "all weights are NaN"),
        ("trains_or_says", {"moved": None, "steps": 0}, False, "nothing learned in 0 steps"),
        ("trains_or_says", {"moved": None, "exit_code": 3}, True, "nothing learned in 60 steps"),
        ("finite_or_says", {"finite": False}, False, "all weights NaN after 60 steps"),
        ("finite_or_says", {"finite": False, "exit_code": 4}, False, "all weights NaN after 60 s"),
        ("finite_or_says", {"exit_code": 4}, True, "nothing"),
        ("finite_or_says", {}, False, "nothing"),
        ("saves_all", {}, True, "nothing"),
        ("saves_all", {"saved": 40}, False, "20 of 60 steps"),
        ("saves_all", {"saved": 0, "steps": 0}, False, "nothing"),
        ("stops_saved", {"exit_code": 75}, True, "nothing"),
        ("stops_saved", {"exit_code": -15, "saved": 0}, False, "60 of 60 steps"),
        ("stops_saved", {"exit_code": None}, False, "it did not stop"),
        ("warms_up", {"output": "warmup_steps lowered to 1"}, True, "nothing"),
        ("warms_up", {"output": "done"}, False, "all 10 steps ran at under 1% of the rate"),
        ("counts_five", {"output": "5 rejected: no token to train on"}, True, "nothing"),
        ("counts_five", {"output": "15 rows"}, False, "5 of 20 rows"),
        ("finds_damage", {"output": "checkpoint-40 is damaged"}, True, "nothing"),
        ("finds_damage", {}, False, "trains on with damaged weights"),
        ("finds_damage", {"exit_code": 1}, True, "nothing"),
        ("survives_memory", {}, True, "nothing"),
        ("survives_memory", {"exit_code": 1, "saved": 0}, False, "60 of 60 steps"),
        ("survives_memory", {"exit_code": 5}, True, "nothing"),
        ("keeps_older", {"exit_code": 5, "saved": 50}, True, "10 of 60 steps"),
        ("keeps_older", {"saved": 0}, False, "60 of 60 steps"),
        ("tells_waiting", {"output": "waiting for rows.jsonl 9.5 s"}, True, "nothing"),
        ("tells_waiting", {"output": "Generating train split"}, False, "20 s of silence"),
    ],
)
def test_everybody_is_judged_alike(
    load: Load, judge: str, changes: dict[str, Any], handled: bool, lost: str
) -> None:
    judged = getattr(load("failures.cases"), judge)([facts(load, **changes)])
    assert judged.handled is handled
    assert judged.lost.startswith(lost)


@pytest.mark.parametrize(
    ("code", "steps", "handled"), [(0, 60, True), (0, 20, False), (1, 60, False)]
)
def test_a_killed_run_has_to_end_with_all_its_steps(
    load: Load, code: int, steps: int, handled: bool
) -> None:
    found = [facts(load, exit_code=-9), facts(load, exit_code=code, steps=steps)]
    assert load("failures.cases").resumes(60)(found).handled is handled


def test_a_second_file_has_to_add_steps(load: Load) -> None:
    judge = load("failures.cases").second_file
    first = facts(load, steps=16)
    assert not judge([first, facts(load, steps=16)]).handled
    assert judge([first, facts(load, steps=24)]).handled
    assert judge([first, facts(load, steps=16, exit_code=4)]).handled


def test_the_page_shows_who_did_what(load: Load) -> None:
    peers = load("failures_peers")
    one = {
        "exit_codes": [-9, 0],
        "noticed": False,
        "said_why": False,
        "handled": False,
        "lost": "40 of 60 steps",
        "line": "",
        "last_lines": ["train_loss `0.0`"],
    }
    ours = one | {"handled": True, "lost": "nothing", "said_why": True, "line": "resumes from 20"}
    ours["exit_codes"] = [-9, None]
    case = {
        "title": "kill -9",
        "at": "2026-11-30 05:00 UTC",
        "systems": {"Trainer": one, "Headway": ours},
    }
    page = peers.page({"date": "2026-11-30", "versions": {"trl": "1"}, "cases": {"F02": case}})
    assert (
        "| F02 kill -9 | not noticed; lost: 40 of 60 steps; exit 0 | not run "
        "| **says why; nothing lost; ended by us** |" in page
    )
    assert "| handled, of 1 | 0 | 0 | 1 |" in page
    assert "- Trainer (ended by us, then exit 0): `train_loss '0.0'`" in page


def test_lines_on_the_page_name_no_folder_of_this_machine(load: Load) -> None:
    plain = load("failures_peers")._plain
    line = "\x1b[1mcannot read /tmp/failing-x/trainer/runs/checkpoint-20 | 3%"
    assert plain(line) == "cannot read .../checkpoint-20 3%"
    assert len(plain("x " * 500)) <= 200


def test_progress_bars_say_nothing(load: Load) -> None:
    said = load("failures.cases").said
    bar = "Truncating train dataset:  50%|#####     | 10/20 [00:01<00:01, 9.1 examples/s]"
    assert said(f"{bar}\r{bar}\nDropping train dataset: 0% 0/20 [00:00<?, ? examples/s]", "t") == ""
    assert said(f"first cut\n{bar}\nlast cut\ndone", "CUT|truncat") == "last cut"
