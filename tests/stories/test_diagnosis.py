"""Something is stuck: the cause, what every process does, and a file that holds no secret."""

import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from .conftest import Headway

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
PLANTED = "pl4ntedS3cret"
WAITS = """
import sys, time
def stand_still():
    password = "{planted}"; print(flush=True)
    while True: time.sleep(0.01)
stand_still()
"""
# A run of another program, that waits in the same way.
WATCHED = """
import sys
from pathlib import Path
from headway.base.pulse import Phase
from headway.runs.watched.watched_run import WatchedRun
from headway.supervise.live.watched_job import WatchedJob
job = WatchedJob(WatchedRun("notes", "callback", "Trainer"), Path("runs"))
job.pulse.enter(Phase.TRAINING)
def stand_still():
    print(flush=True)
    sys.stdin.readline()
stand_still()
job.close()
"""


class Started:
    """Starts Python programs in the folder and environment of the commands."""

    def __init__(self, headway: Headway) -> None:
        self._headway = headway
        self.all: list[subprocess.Popen[bytes]] = []

    def __call__(self, code: str, *words: str, **environment: str) -> "subprocess.Popen[bytes]":
        script = self._headway.write(f"script-{len(self.all)}.py", code)
        process = subprocess.Popen(
            [sys.executable, str(script), *words],
            cwd=self._headway.here,
            env=self._headway.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.all.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process


@pytest.fixture
def start(headway: Headway) -> Iterator[Started]:
    started = Started(headway)
    yield started
    for process in started.all:
        process.kill()
        process.communicate()


def test_any_process_on_a_narrow_terminal(headway: Headway, start: Started) -> None:
    process = start(WAITS.format(planted=PLANTED))
    told = headway("diagnose", "--pid", process.pid, COLUMNS="60")
    assert told.err == ""
    assert told.code in (0, 4)
    lines = told.out.splitlines()
    assert lines[0] == f"process {process.pid} · running"
    assert "  stand_still " in told.out
    assert "script-0.py:5" in told.out
    copied = [line for line in lines if line.startswith("  try   ")]  # those are not wrapped
    assert max(len(line) for line in lines if line not in copied) <= 60


def test_a_stopped_process_is_named_and_stays_stopped(headway: Headway, start: Started) -> None:
    process = start(WAITS.format(planted=PLANTED))
    process.send_signal(signal.SIGSTOP)
    told = headway("diagnose", "--pid", process.pid, "--json")
    assert told.code == 0, told.err
    answer = told.json
    jsonschema.validate(answer, json.loads((SCHEMAS / "diagnosis.json").read_text()))
    assert answer["diagnosis"]["cause"] == "stopped"
    (facts,) = answer["evidence"]["processes"]
    assert facts["threads"][0]["state"] == "T"
    assert [frame["function"] for frame in facts["threads"][0]["frames"]][-2:] == [
        "stand_still",
        "<module>",
    ]
    assert Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T"


def test_no_planted_secret_is_in_a_bundle(headway: Headway, start: Started) -> None:
    process = start(
        WAITS.format(planted=PLANTED),
        *("--token", PLANTED, f"--api-key={PLANTED}", f"https://me:{PLANTED}@host/x"),
        *(f"wandb.api_key={PLANTED}", "--notify", f"https://ntfy.sh/{PLANTED}"),
        HF_TOKEN=PLANTED,
        MY_DATA=PLANTED,
        TORCH_SECRET=PLANTED,
        LD_LIBRARY_PATH=f"/lib:https://me:{PLANTED}@host/x",
    )
    for name in ("bundle.tar.gz", "bundle.txt"):
        told = headway("diagnose", "--pid", process.pid, "--bundle", name)
        assert told.code in (0, 4), told.err
        assert f"wrote {name}" in told.out
    with tarfile.open(headway.here / "bundle.tar.gz") as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames()}
        texts = {name: file.read().decode() for name, file in files.items() if file}
    texts["bundle.txt"] = (headway.here / "bundle.txt").read_text()
    assert [name for name, text in texts.items() if PLANTED in text] == []
    assert "stand_still" in texts["bundle/report.txt"]
    assert "HF_TOKEN" in texts["bundle/environment.txt"]
    assert set(texts) >= {f"bundle/{name}.txt" for name in ("report", "versions", "machine")}


def test_no_planted_secret_of_a_run_is_in_its_bundle(headway: Headway, start: Started) -> None:
    start(WATCHED)
    folder = headway.here / "runs" / "notes"
    (folder / "run.yaml").write_text(
        f"data: https://me:{PLANTED}@host/x\nhub_token: {PLANTED}\nseed: 5\n"
    )
    event = {"at": "2026-11-30T00:00:00Z", "t": 1.0, "attempt": 1, "rank": 0}
    sampled = event | {"event": "sampled", "global_step": 1, "prompt": "x", "text": PLANTED}
    with (folder / "events.jsonl").open("a") as log:
        log.write(json.dumps(sampled) + "\n")
    (folder / "stall-1.txt").write_text(f"earlier\nAuthorization: Bearer {PLANTED}\n")
    told = headway("diagnose", "--bundle", "notes.txt")
    assert told.code in (0, 4), told.err
    text = (headway.here / "notes.txt").read_text()
    assert PLANTED not in text
    for part in ("seed: 5", "attempt_started", "earlier", '"program": "Trainer"', "stand_still"):
        assert part in text


def test_a_run_is_found_with_its_roles_and_pulses(headway: Headway, start: Started) -> None:
    process = start(WATCHED)
    told = headway("diagnose", COLUMNS="100")
    assert told.err == ""
    assert told.out.startswith("notes · training")
    assert f"trainer · process {process.pid} · reads standard input" in told.out
    assert "  training for " in told.out
    assert "stand_still" in told.out


def test_it_is_watched_until_it_ends(headway: Headway, start: Started) -> None:
    process = start(WATCHED)
    watching = headway.start("diagnose", "notes", "--watch")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("notes · training")
    process.communicate(b"\n")
    out, err = watching.communicate()
    assert err == ""
    assert "notes is not running: died" in out


def test_what_does_not_run_is_said(headway: Headway, start: Started) -> None:
    process = start(WATCHED)
    process.communicate(b"\n")
    told = headway("diagnose", "notes")
    assert told.code == 0
    first, try_line = told.out.splitlines()
    assert first == "notes is not running: died"
    assert headway(*try_line.split("   ")[1].split()[1:]).code == 0
    answer = headway("diagnose", "notes", "--json").json
    assert (answer["running"], answer["diagnosis"], answer["evidence"]) == (False, None, None)
    gone = headway("diagnose", "--pid", process.pid)
    assert gone.code == 2
    assert gone.err.splitlines()[0] == f"no process {process.pid}"


def test_a_name_that_cannot_be_is_told_before_anything_is_looked_at(headway: Headway) -> None:
    for words in (["--bundle", "a.zip"], ["--pid", "0"], ["--pid", "x"], ["--bundle"]):
        told = headway("diagnose", *words)
        assert told.code == 2
        assert "try" in told.err
    both = headway("diagnose", "--pid", os.getpid(), "notes")
    assert both.code == 2
