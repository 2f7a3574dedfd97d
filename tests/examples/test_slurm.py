"""The batch script for Slurm: what it plans, starts, hands on, and puts back into the queue."""

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.examples.commands import EXAMPLES
from tests.examples.fake_slurm import install, job

from headway.base.errors import Exit
from headway.config.settings import Settings

SCRIPT = EXAMPLES / "slurm.sh"
# The program as the script uses it: a plan makes the run's folder, and a status is what is in it.
HEADWAY = """
import json, pathlib, sys

words = sys.argv[1:]
if words[0] == "plan":
    run = pathlib.Path(words[words.index("--save") + 1])
    run.mkdir(parents=True)
    (run / "plan.json").write_text(json.dumps(words))
    (run / "status.json").write_text('{"attempt": 0, "exit_code": null}')
else:
    print((pathlib.Path(words[1]) / "status.json").read_text())
"""
# The launcher notes how it was called, waits for a signal if it is told to, and leaves a status.
TORCHRUN = """
import json, os, pathlib, signal, sys, time

pathlib.Path(f"torchrun-{os.environ['SLURM_PROCID']}.json").write_text(json.dumps(sys.argv[1:]))
caught = []
signal.signal(signal.SIGUSR1, lambda number, _: caught.append(number))
if "WAIT" in os.environ:
    pathlib.Path(f"ready-{os.environ['SLURM_PROCID']}").touch()
    while not caught:
        time.sleep(0.01)
if "STATUS" in os.environ:
    pathlib.Path(sys.argv[-1], "status.json").write_text(os.environ["STATUS"])
sys.exit(int(os.environ["CODE"]))
"""


def options() -> dict[str, str]:
    found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SCRIPT.read_text(), re.MULTILINE)
    assert len(found) == SCRIPT.read_text().count("#SBATCH")
    return dict(found)


def start(folder: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    install(folder / "bin", headway=HEADWAY, torchrun=TORCHRUN)
    return subprocess.Popen(
        [SCRIPT, "runs/corpus", *(words or ("data/",))],
        cwd=folder,
        env=job(folder / "bin", 2, **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(folder: Path, *words: str, **variables: str) -> tuple[int, str]:
    process = start(folder, *words, **variables)
    out, _ = process.communicate(timeout=100)
    return process.returncode, out


def requeued(folder: Path) -> list[str]:
    log = folder / "scontrol.log"
    return log.read_text().splitlines() if log.exists() else []


def status(attempt: int, code: int | None) -> str:
    return json.dumps({"attempt": attempt, "exit_code": code})


def test_shellcheck_finds_nothing() -> None:
    assert shutil.which("shellcheck"), "install the Debian package shellcheck"
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_slurm_asks_early_enough_and_only_the_script() -> None:
    asked = options()
    who, name, before_s = re.fullmatch(r"(B):(\w+)@(\d+)", asked["signal"]).groups()  # type: ignore[union-attr]
    assert (who, name) == ("B", "USR1")
    limit_s = int(re.search(r"--shutdown-timeout (\d+)", SCRIPT.read_text())[1])  # type: ignore[index]
    assert Settings().grace_s < limit_s < int(before_s)
    assert "requeue" in asked
    assert asked["ntasks-per-node"] == "1"  # torchrun starts the others


def test_it_plans_once_for_all_workers_and_starts_torchrun_on_each_machine(tmp_path: Path) -> None:
    words = ["my data/", "--preset", "tiny"]
    variables = {"CODE": "0", "STATUS": status(1, 0), "SLURM_CPUS_PER_TASK": "8"}
    code, out = finished(tmp_path, *words, HEADWAY_PER_NODE="4", **variables)
    assert code == 0, out
    plan = json.loads((tmp_path / "runs/corpus/plan.json").read_text())
    own = ["--save", "runs/corpus", "--nproc", "8", "--threads", "2"]
    assert plan == ["plan", *words, *own]
    first, second = (json.loads((tmp_path / f"torchrun-{n}.json").read_text()) for n in (0, 1))
    assert first == second
    assert first[-3:] == ["-m", "headway.training.worker", "runs/corpus"]
    asked: dict[str, Any] = dict(zip(first[:-3:2], first[1:-3:2], strict=True))
    assert (asked["--nnodes"], asked["--nproc-per-node"]) == ("2", "4")
    assert asked["--rdzv-endpoint"] == "localhost:20007"
    assert (tmp_path / "runs/corpus/plan.json").read_text() == json.dumps(plan)
    assert finished(tmp_path, *words, **variables)[0] == 0  # does not plan again: that would fail


@pytest.mark.parametrize(
    ("code", "found", "ends", "requeues"),
    [
        (0, status(1, 0), 0, False),
        (1, status(1, Exit.COME_BACK), 75, True),  # saved: start it again
        (1, status(1, Exit.DATA), 3, False),
        (1, status(1, Exit.BROKEN), 4, False),
        (1, status(4, Exit.COME_BACK), 75, True),  # after three restarts
        (1, status(1, None), 1, False),  # it left no last word
        (1, status(0, Exit.COME_BACK), 1, False),  # of another job: this one started no worker
        (0, status(1, Exit.BROKEN), 4, False),
    ],
)
def test_what_the_run_ended_with_decides(
    tmp_path: Path, code: int, found: str, ends: int, *, requeues: bool
) -> None:
    ended, out = finished(tmp_path, CODE=str(code), STATUS=found)
    assert ended == ends, out
    assert requeued(tmp_path) == (["requeue 7"] if requeues else [])


def test_a_signal_of_slurm_reaches_each_torchrun_and_the_job_waits_for_its_save(
    tmp_path: Path,
) -> None:
    process = start(tmp_path, WAIT="yes", CODE="1", STATUS=status(1, Exit.COME_BACK))
    while not all((tmp_path / f"ready-{n}").exists() for n in (0, 1)):
        time.sleep(0.01)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=100)
    assert process.returncode == Exit.COME_BACK, out
    assert requeued(tmp_path) == ["requeue 7"]


def test_a_plan_that_is_refused_ends_the_job(tmp_path: Path) -> None:
    install(tmp_path / "bin", headway="import sys; sys.exit(3)", torchrun=TORCHRUN)
    done = subprocess.run(
        [SCRIPT, "runs/corpus", "data/"], cwd=tmp_path, env=job(tmp_path / "bin", 2), check=False
    )
    assert done.returncode == Exit.DATA
    assert not (tmp_path / "torchrun-0.json").exists()


def test_without_a_run_it_says_how_it_is_used(tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT], cwd=tmp_path, env=job(tmp_path, 2), capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "usage: sbatch slurm.sh RUN DATA" in done.stderr


@pytest.mark.timeout(1200)
def test_a_job_that_slurm_interrupts_goes_on_in_its_next_start(tmp_path: Path) -> None:
    """With the real programs: only Slurm itself is made of stand-ins."""
    install(tmp_path / "bin")
    text = "".join(
        f"The {n}th day was like the {n * 7 % 31}th, only longer.\n" for n in range(2000)
    )
    (tmp_path / "days.txt").write_text(text)
    words = ["days.txt", "--preset", "tiny", "--max-length", "64", "--batch-size", "128"]
    command = [str(SCRIPT), "runs/corpus", *words, "--max-steps", "30"]
    environment = job(tmp_path / "bin", 2, XDG_CACHE_HOME=str(tmp_path / "cache"))
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True}
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    log = tmp_path / "runs/corpus/events.jsonl"
    with subprocess.Popen(command, **options) as process:
        while not (log.exists() and '"step_done"' in log.read_text()):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        out, _ = process.communicate()
    assert process.returncode == Exit.COME_BACK, out
    assert requeued(tmp_path) == ["requeue 7"]
    again = subprocess.run(command, check=False, **options)
    assert again.returncode == Exit.KEPT, again.stdout
    receipt = json.loads((tmp_path / "runs/corpus/receipt.json").read_text())
    assert (receipt["outcome"], receipt["attempts"]) == ("finished", 2)
    assert receipt["contract"]["verdict"] == "kept"
    assert [worker["group"] for worker in receipt["workers"]] == [0, 1]
    events = [json.loads(line) for line in log.read_text().splitlines()]
    steps = [event["step"] for event in events if event["event"] == "step_done"]
    assert steps == list(range(1, 31))
