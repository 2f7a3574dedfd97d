"""headway guard, from the command line: scripts that go silent, stall, crash, last too long."""

import http.server
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HEADWAY = (sys.executable, "-m", "headway")
SLOW_STREAM = """
import sys, urllib.request
print("dataset loaded", flush=True)
pieces = []
with urllib.request.urlopen(sys.argv[1]) as source:
    while piece := source.read(500):
        pieces.append(piece)
print("gathered", sum(map(len, pieces)))
"""
COMPUTES = """
import time
print("dataset loaded", flush=True)
until = time.process_time() + 4
while time.process_time() < until:
    pass
print("done")
"""
DEADLOCK = """
import threading, time
for step in range(10):
    print(f"step {step}/100 loss {2 / (step + 1)}", flush=True)
    time.sleep(0.1)
lock = threading.Lock()
def update():
    with lock:
        with lock:
            print("never")
update()
"""


def guard(folder: Path, script: str, *options: str) -> "subprocess.Popen[str]":
    (folder / "train.py").write_text(script)
    words, _, arguments = " ".join(options).partition("-- ")
    return subprocess.Popen(
        [*HEADWAY, "guard", *words.split(), "--", sys.executable, "train.py", *arguments.split()],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def record(folder: Path, name: str = "train") -> dict[str, Any]:
    return json.loads((folder / "runs" / name / "guard.json").read_bytes())


class SlowSource(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(60):
            self.wfile.write(b"x" * 100)
            time.sleep(0.1)

    def log_message(self, *_: object) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]


@pytest.fixture
def slow_source() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowSource)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_f09_a_slow_stream_is_said_within_five_seconds_and_is_no_stall(
    tmp_path: Path, slow_source: str
) -> None:
    """Incident E: minutes of silence after "dataset loaded"."""
    running = guard(tmp_path, SLOW_STREAM, "--", slow_source)
    assert running.stdout
    assert running.stderr
    assert running.stdout.readline() == "dataset loaded\n"
    line = running.stderr.readline()
    assert re.match(r"headway: no output for [345] s: reading from the network \(", line), line
    out, err = running.communicate()
    assert out == "gathered 6000\n"
    assert running.returncode == 0
    assert "no progress" not in err
    assert record(tmp_path)["stalls"] == []


def test_silent_computing_is_said_and_is_no_stall(tmp_path: Path) -> None:
    running = guard(tmp_path, COMPUTES)
    out, err = running.communicate()
    assert out == "dataset loaded\ndone\n"
    assert re.match(r"headway: no output for [345] s: computing \(", err), err
    assert record(tmp_path)["stalls"] == []


def test_f08_a_deadlock_is_explained_and_ended_at_the_time_limit(tmp_path: Path) -> None:
    running = guard(tmp_path, DEADLOCK, "--stall-after", "6", "--timeout", "13")
    _, err = running.communicate()
    assert running.returncode == 75
    assert "headway: no progress for 6" in err
    assert "deadlock" in err
    for part in ("  have  ", "  need  ", "  try   ", "(train.py:9)"):
        assert part in err
    evidence = tmp_path / "runs" / "train" / "stall-1.txt"
    assert f"all stacks: {evidence.relative_to(tmp_path)}" in err
    assert "update" in evidence.read_text()
    (stall,) = record(tmp_path)["stalls"]
    assert stall["cause"] == "deadlock"


def test_a_stalled_command_is_started_again(tmp_path: Path) -> None:
    """The second attempt finds what the first one left, as one that resumes does."""
    script = (
        "import os, sys, threading, time\n"
        "for step in range(5): print(f'step {step}/5 loss 1.5', flush=True); time.sleep(0.1)\n"
        "if os.path.exists('again'): sys.exit(0)\n"
        "open('again', 'w').close()\n"
        "lock = threading.Lock()\n"
        "lock.acquire()\n"
        "lock.acquire()\n"
    )
    running = guard(tmp_path, script, "--stall-after", "6", "--restart", "2")
    out, err = running.communicate()
    assert out.count("step 4/5") == 2
    assert "starting it again, 1 of 2 restarts" in err
    kept = record(tmp_path)
    assert (kept["restarts"], kept["own_exit_code"]) == (1, 0)


def test_f22_a_crash_loop_ends(tmp_path: Path) -> None:
    running = guard(tmp_path, "raise RuntimeError('no module')", "--restart", "9")
    _, err = running.communicate()
    assert err.count("RuntimeError: no module") == 2
    assert "not started again: it ended within a minute of the restart before" in err
    assert running.returncode == 1


def test_a_crash_is_survived_while_steps_are_reached(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "at = pathlib.Path('at'); step = int(at.read_text()) if at.exists() else 0\n"
        "for step in range(step + 1, step + 3):\n"
        "    print(f'step {step}/5 loss 1.5')\n"
        "    at.write_text(str(step))\n"
        "sys.exit(step < 5)\n"
    )
    running = guard(tmp_path, script, "--restart", "5")
    running.communicate()
    assert running.returncode == 0
    assert record(tmp_path)["restarts"] == 2


def test_a_stop_is_not_a_crash(tmp_path: Path) -> None:
    running = guard(
        tmp_path, "print('go', flush=True); import time; time.sleep(60)", "--restart", "5"
    )
    assert running.stdout
    running.stdout.readline()
    running.terminate()
    running.communicate()
    assert running.returncode == 143
    assert record(tmp_path)["restarts"] == 0


def test_runs_status_and_logs_show_it(tmp_path: Path) -> None:
    script = (
        "import time\n"
        "for step in range(200):\n"
        "    print(f'step {step}/200 loss {1 + 1 / (step + 1)}', flush=True)\n"
        "    time.sleep(0.05)\n"
    )
    running = guard(tmp_path, script, "--name", "mine")
    folder = tmp_path / "runs" / "mine"
    until_s = time.monotonic() + 60
    while time.monotonic() < until_s:
        shown = look(tmp_path, "status", "mine", "--json")
        if shown and json.loads(shown)["step"] > 0:
            break
        time.sleep(0.2)
    live = json.loads(look(tmp_path, "status", "mine", "--json"))
    assert live["state"] == "training"
    assert live["steps"] == 200
    assert 1 < live["loss"] <= 2
    assert "mine" in look(tmp_path, "runs")
    running.communicate()
    ended = json.loads(look(tmp_path, "status", "mine", "--json"))
    assert ended["state"] == "finished"
    assert ended["step"] == 199
    assert "step 199/200 · loss 1" in look(tmp_path, "logs", "mine")
    assert folder.is_dir()


def look(folder: Path, *words: str) -> str:
    return subprocess.run([*HEADWAY, *words], cwd=folder, capture_output=True, text=True).stdout


def test_json_keeps_the_screen_for_the_command(tmp_path: Path) -> None:
    running = guard(tmp_path, COMPUTES, "--json")
    out, err = running.communicate()
    assert (out, err) == ("dataset loaded\ndone\n", "")


def test_where_no_folder_can_be_made_the_command_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    running = guard(tmp_path, "print('done')")
    out, _ = running.communicate()
    assert (out, running.returncode) == ("done\n", 0)


def test_a_file_that_the_system_cannot_start(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"#!/no/such/interpreter\n")
    program.chmod(0o755)
    ran = subprocess.run(
        [*HEADWAY, "guard", "./program"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert "cannot start ./program: No such file or directory" in ran.stderr


def test_it_needs_nothing_that_trains(tmp_path: Path) -> None:
    """The light installation has no torch, no numpy, nothing of headway[train]."""
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'transformers', 'tokenizers', 'safetensors', 'jinja2'):\n"
        "    sys.modules[name] = None\n"
        "from headway.cli import run\n"
        "sys.exit(run(['guard', '--', 'sh', '-c', 'echo step 1/1 loss 2.5; exit 6']))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (ran.stdout, ran.returncode) == ("step 1/1 loss 2.5\n", 6), ran.stderr
