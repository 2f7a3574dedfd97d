"""The process that trains, started by hand or by torchrun: one folder, one exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.helpers import plan_of, text_store

from headway.base.errors import Cause, MachineError
from headway.base.events import Ended, StepDone, read_events
from headway.base.process import PULSE_VARIABLE, ChildProcess
from headway.base.pulse import Phase, read_pulse
from headway.runs.receipt import load_receipt
from headway.supervise.child import death_refusal


def work(run: Path, pulse: Path) -> int:
    environment = os.environ | {PULSE_VARIABLE: str(pulse), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "headway.training.worker", str(run)]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    plan = plan_of(text_store(tmp_path / "store", 200), max_length=16, batch_size=4)
    plan.save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("hung", ["a thread", "an exit handler"])
def test_it_ends_with_its_code_whatever_hangs_at_its_exit(hung: str) -> None:
    hang = {
        "a thread": "threading.Thread(target=time.sleep, args=(100,)).start()",
        "an exit handler": "atexit.register(time.sleep, 100)",
    }
    code = (
        "import atexit, threading, time; from headway.training.worker import exit_within; "
        f"{hang[hung]}; exit_within(75, 0.1)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 75


def test_it_trains_the_plan_in_a_folder(run: Path, tmp_path: Path) -> None:
    assert work(run, tmp_path / "pulse") == 0
    receipt = load_receipt(run)
    assert receipt.contract.verdict == "kept"
    # What is listed adds up to the whole time, imports included.
    listed_s, whole_s = sum(receipt.time.by_phase.values()), receipt.time.total
    assert receipt.time.by_phase[Phase.IMPORTING_TORCH] > 0.1
    assert listed_s == pytest.approx(whole_s, rel=0.05, abs=0.3)
    assert listed_s <= whole_s
    events = [entry.event for entry in read_events(run / "events.jsonl")]
    assert sum(isinstance(event, StepDone) for event in events) == 3
    reading = read_pulse(tmp_path / "pulse")
    assert reading is not None
    assert (reading.step, reading.steps, reading.global_step) == (3, 3, 3)
    assert reading.rows == 13


def test_garbage_is_not_looked_for_among_modules_and_then_is(tmp_path: Path) -> None:
    code = (
        "import gc, sys; from headway.training.worker import main; before = len(gc.get_objects()); "
        "main(['-']); print(gc.isenabled(), gc.get_freeze_count() > 10 * before)"
    )
    environment = os.environ | {PULSE_VARIABLE: str(tmp_path / "pulse")}
    command = [sys.executable, "-c", code]
    told = subprocess.check_output(
        command, env=environment, stdin=subprocess.DEVNULL, text=True, timeout=120
    )
    assert told.split() == ["True", "True"]


def test_what_cannot_be_logged_is_told_to_the_one_who_started_it(run: Path, tmp_path: Path) -> None:
    """A log that takes no line, as on a full disk."""
    (run / "events.jsonl").mkdir()
    child = ChildProcess("headway.training.worker", [str(run)], log=tmp_path / "err")
    assert child.wait() == 5
    refusal = death_refusal(child, "training run")
    child.end()
    assert isinstance(refusal, MachineError)
    assert refusal.cause is Cause.NOT_WRITABLE
    assert "events.jsonl" in refusal.what
    assert refusal.remedies


def test_what_it_cannot_begin_is_its_exit_code_and_its_last_event(
    run: Path, tmp_path: Path
) -> None:
    (tmp_path / "store" / "store.json").write_text(
        (tmp_path / "store" / "store.json").read_text().replace("ab" * 32, "cd" * 32)
    )
    assert work(run, tmp_path / "pulse") == 3
    ended = read_events(run / "events.jsonl")[-1].event
    assert isinstance(ended, Ended)
    assert (ended.outcome, ended.exit_code) == ("failed", 3)
    assert ended.line == "the data changed since this run started"
    assert not list(run.glob("checkpoint-*"))


def test_where_a_limit_leaves_no_room_for_torch_it_is_the_machine(tmp_path: Path) -> None:
    """`ulimit -v 300000`, and nobody else's import errors."""
    limit = "import resource as r; r.setrlimit(r.RLIMIT_AS, (3 * 10**8, r.RLIM_INFINITY))\n"
    (tmp_path / "sitecustomize.py").write_text(limit)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    child = ChildProcess(
        "headway.training.worker", ["-"], log=tmp_path / "err", environment=environment
    )
    assert child.wait() == 5
    refusal = death_refusal(child, "training run")
    child.end()
    assert isinstance(refusal, MachineError)
    assert refusal.cause is Cause.ADDRESS_SPACE_LIMIT
    assert "ulimit -v unlimited" in str(refusal)
