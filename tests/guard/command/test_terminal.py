"""On a terminal, a guarded command has a terminal, and behaves as without the guard."""

import sys
from pathlib import Path

import pytest
from tests.guard.command.pty_run import resize, run_on_terminal

GUARD = (sys.executable, "-m", "headway", "guard", "--")
PYTHON = (sys.executable, "-c")
SEES = (
    "import os, sys; print(*map(os.isatty, range(3)), *os.get_terminal_size());"
    "print('x\\ty', end='\\r\\n'); sys.stderr.write('\\033[31mred\\033[0m\\n')"
)


def test_what_a_command_sees_and_shows_is_the_same(tmp_path: Path) -> None:
    plain = run_on_terminal([*PYTHON, SEES], folder=tmp_path)
    under = run_on_terminal([*GUARD, *PYTHON, SEES], folder=tmp_path)
    assert under == plain
    assert b"True True True 77 33" in plain[0]


def test_typed_lines_arrive_once_and_are_shown_once(tmp_path: Path) -> None:
    code = "name = input('name? '); print('hello', name)"
    shown, status = run_on_terminal(
        [*GUARD, *PYTHON, code], [(b"name? ", b"Ada\r")], folder=tmp_path
    )
    assert shown == b"name? Ada\r\nhello Ada\r\n"
    assert status == 0


def test_end_of_file_can_be_typed(tmp_path: Path) -> None:
    code = "import sys; print('go'); print(len(sys.stdin.read()))"
    shown, _ = run_on_terminal([*GUARD, *PYTHON, code], [(b"go", b"ab\r\x04")], folder=tmp_path)
    assert shown.endswith(b"\r\n3\r\n")


def test_ctrl_c_reaches_the_command_once(tmp_path: Path) -> None:
    code = (
        "import signal, time\n"
        "got = []\n"
        "signal.signal(signal.SIGINT, lambda *_: got.append(1))\n"
        "print('go', flush=True)\n"
        "while not got: time.sleep(0.05)\n"
        "time.sleep(0.5); print('got', len(got)); raise SystemExit(9)\n"
    )
    shown, status = run_on_terminal([*GUARD, *PYTHON, code], [(b"go", b"\x03")], folder=tmp_path)
    assert b"got 1\r\n" in shown
    assert status == 9


def test_a_command_that_ctrl_c_ends_has_the_code_of_a_shell(tmp_path: Path) -> None:
    code = "import time; print('go', flush=True); time.sleep(60)"
    _, status = run_on_terminal([*GUARD, *PYTHON, code], [(b"go", b"\x03")], folder=tmp_path)
    assert status == 130


def test_a_new_size_is_passed_on(tmp_path: Path) -> None:
    code = (
        "import os, signal, time\n"
        "new = []\n"
        "signal.signal(signal.SIGWINCH, lambda *_: new.append(os.get_terminal_size()))\n"
        "print('go', flush=True)\n"
        "while not new: time.sleep(0.05)\n"
        "print(*new[-1])\n"
    )
    shown, _ = run_on_terminal([*GUARD, *PYTHON, code], [(b"go", resize(50, 100))], folder=tmp_path)
    assert b"100 50" in shown


def test_ctrl_z_gives_the_shell_back_and_fg_goes_on(tmp_path: Path) -> None:
    """The terminal's modes are the shell's own meanwhile."""
    code = "import time; print('g' + 'o', flush=True); time.sleep(1); print('do' + 'ne')"
    line = " ".join([*GUARD, sys.executable, f'-c "{code}"'])
    script = [
        (b"READY", line.encode() + b"\r"),
        (b"go\r\n", b"\x1a"),
        (b"Stopped", b"stty -a | grep -o -w -e '-*icanon' -e '-*opost'; fg\r"),
        (b"done\r\n\x1b[?2004h$ ", b"exit 5\r"),
    ]
    shown, status = run_on_terminal(
        ["bash", "--norc", "--noprofile", "-c", "echo READY; PS1='$ ' exec bash --norc -i"],
        script,
        folder=tmp_path,
    )
    modes = shown.partition(b"Stopped")[2].partition(b"fg\r\n")[2]
    assert b"icanon" in modes
    assert b"-icanon" not in modes
    assert b"-opost" not in modes
    assert status == 5


@pytest.mark.parametrize("stream", ["| cat", "2>errors", ">out"])
def test_what_is_no_terminal_stays_none(tmp_path: Path, stream: str) -> None:
    # One write each: pieces of two streams may come in between each other on any terminal.
    code = (
        "import os; os.write(2, b'e\\n'); os.write(1, b'%r\\n' % [os.isatty(n) for n in range(3)])"
    )
    shell = f'{" ".join(GUARD)} {sys.executable} -c "{code}" {stream}; cat out 2>/dev/null'
    plain = f'{sys.executable} -c "{code}" {stream}; cat out 2>/dev/null'
    under, _ = run_on_terminal(["sh", "-c", shell], folder=tmp_path)
    without, _ = run_on_terminal(["sh", "-c", plain], folder=tmp_path)
    assert sorted(under.split(b"\r\n")) == sorted(without.split(b"\r\n"))


def test_the_end_of_a_large_output_is_whole(tmp_path: Path) -> None:
    code = "print('x' * 5_000_000); print('the end', end='')"
    shown, _ = run_on_terminal([*GUARD, *PYTHON, code], folder=tmp_path)
    assert shown.count(b"x") == 5_000_000
    assert shown.endswith(b"the end")
