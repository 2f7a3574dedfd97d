"""A command finds the environment and the signals that it would find without the guard."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from headway.guard.command.surroundings import Surroundings, original_environment

SHOW = "import os; print(sorted(os.environb.items()))"


def guarded(*command: str) -> list[str]:
    return [sys.executable, "-m", "headway", "guard", "--", *command]


def test_the_environment_is_the_persons_own(tmp_path: Path) -> None:
    """Also in the POSIX locale, where Python sets a variable of its own."""
    mine = {
        b"PATH": os.environb[b"PATH"],
        b"LANG": b"C",
        b"ODD": b"\xff=\xfe",
        b"PYTHONPATH": b"",
        b"EMPTY": b"",
    }
    plain = subprocess.run(["env", "-0"], env=mine, capture_output=True, check=True, cwd=tmp_path)
    under = subprocess.run(
        guarded("env", "-0"), env=mine, capture_output=True, check=True, cwd=tmp_path
    )
    assert under.stdout == plain.stdout


def test_signals_descriptors_and_limits_are_as_they_were(tmp_path: Path) -> None:
    code = (
        "import os, resource, signal;"
        "status = open('/proc/self/status').read();"
        "print([line for line in status.splitlines() if line[:3] == 'Sig' and 'Q' not in line]);"
        "print(sorted(os.listdir('/proc/self/fd'), key=int), oct(os.umask(0)), os.nice(0));"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE), os.getcwd())"
    )
    read, write = os.pipe()
    try:
        both = [
            subprocess.run(
                command, capture_output=True, check=True, cwd=tmp_path, pass_fds=(write,), text=True
            ).stdout
            for command in ([sys.executable, "-c", code], guarded(sys.executable, "-c", code))
        ]
    finally:
        os.close(read)
        os.close(write)
    assert both[0] == both[1]


def test_what_nohup_ignores_stays_ignored(tmp_path: Path) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGHUP).name)"
    under = subprocess.run(
        ["nohup", *guarded(sys.executable, "-c", code)],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        text=True,
    )
    assert under.stdout == "SIG_IGN\n"


def test_handlers_of_this_process_are_not_inherited() -> None:
    found = Surroundings.of_this_process()
    assert signal.SIGPIPE not in found.ignored, "Python ignores it, a shell does not"
    assert found.environment == original_environment()
