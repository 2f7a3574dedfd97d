"""Bytes and signals between a person and a command: all of them, each once, at once."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headway.guard.command.relay import CommandEnd

GUARD = (sys.executable, "-m", "headway", "guard", "--")
COUNTS = (
    "import signal, sys, time\n"
    "got = []\n"
    "for name in sys.argv[1:]: signal.signal(getattr(signal, name), lambda n, _: got.append(n))\n"
    "print('ready', flush=True)\n"
    "until = time.monotonic() + 30\n"
    "while len(got) < len(sys.argv) - 1 and time.monotonic() < until: time.sleep(0.02)\n"
    "time.sleep(0.3)\n"
    "print(*sorted(signal.Signals(n).name for n in got))\n"
)


def test_every_signal_reaches_the_command_once(tmp_path: Path) -> None:
    names = ["SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2"]
    guard = subprocess.Popen(
        [*GUARD, sys.executable, "-c", COUNTS, *names],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout
    assert guard.stdout.readline() == "ready\n"
    for name in names:
        guard.send_signal(getattr(signal, name))
        time.sleep(0.05)
    out, _ = guard.communicate()
    assert out == f"{' '.join(names)}\n"
    assert guard.returncode == 0


def test_signals_reach_what_a_shell_script_runs(tmp_path: Path) -> None:
    """Else a stopped script would leave its program running."""
    guard = subprocess.Popen(
        [*GUARD, "sh", "-c", "echo ready; sleep 60; echo never"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout
    assert guard.stdout.readline() == "ready\n"
    guard.terminate()
    out, err = guard.communicate()
    assert (out, guard.returncode) == ("", 143)
    assert "running" not in err, "nothing was left behind"


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", 137), (":", 0)])
def test_the_exit_code_is_the_commands(tmp_path: Path, script: str, code: int) -> None:
    assert subprocess.run([*GUARD, "sh", "-c", script], cwd=tmp_path).returncode == code


def test_bytes_pass_unchanged_and_apart(tmp_path: Path) -> None:
    code = (
        "import sys; data = sys.stdin.buffer.read();"
        "sys.stdout.buffer.write(data); sys.stderr.buffer.write(data[::-1])"
    )
    data = bytes(range(256)) * 4000
    ran = subprocess.run(
        [*GUARD, sys.executable, "-c", code], cwd=tmp_path, input=data, capture_output=True
    )
    assert ran.stdout == data
    assert ran.stderr == data[::-1]


def test_streams_that_lead_to_one_place_keep_their_order(tmp_path: Path) -> None:
    code = "import os\nfor n in range(20000): os.write(1 + n % 2, b'%d\\n' % n)"
    ran = subprocess.run(
        [*GUARD, sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert ran.stdout.split() == [str(number) for number in range(20000)]


def test_output_passes_at_once(tmp_path: Path) -> None:
    code = "import sys; print('first', flush=True); print(sys.stdin.readline())"
    guard = subprocess.Popen(
        [*GUARD, sys.executable, "-c", code],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert guard.stdout
    assert guard.stdout.readline() == "first\n", "before the command has ended"
    guard.communicate("x\n")


def test_a_reader_that_leaves_ends_the_command_as_it_would(tmp_path: Path) -> None:
    shell = f"{' '.join(GUARD)} seq 100000000 | head -n 1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", shell], cwd=tmp_path, capture_output=True, text=True)
    assert ran.stdout == "1\n141\n", "128 + SIGPIPE, as without the guard"


def test_a_full_disk_ends_output_and_not_the_guard(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run([*GUARD, "seq", "100000000"], cwd=tmp_path, stdout=full)
    assert ran.returncode == 141


def test_what_outlives_the_command_does_not_keep_the_guard(tmp_path: Path) -> None:
    """And is named: it keeps memory and ports."""
    began_s = time.monotonic()
    ran = subprocess.run(
        [*GUARD, "sh", "-c", "(while :; do echo on; sleep 0.1; done) & echo done"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert time.monotonic() - began_s < 60
    assert "done\n" in ran.stdout
    assert ran.returncode == 0
    assert "outlived" in ran.stderr
    for process in _orphans(tmp_path):
        os.kill(process, signal.SIGKILL)


def _orphans(folder: Path) -> list[int]:
    """Processes whose working folder is the test's."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "cwd").readlink() == folder:
                    found.append(int(entry.name))
    return found


def test_a_request_to_end_is_made_once() -> None:
    ending = CommandEnd(grace_s=5.0)
    ending.request()
    first_s = ending.since_s
    ending.request()
    assert ending.since_s == first_s
    ending.reset()
    assert not ending.requested
