"""Processes below another one, and those that outlive a command."""

import subprocess
import sys
import time

from headway.guard.command.orphans import descendants, find_orphans, kill_all

TREE = (
    "import subprocess, sys, time\n"
    "if sys.argv[1] != '0':\n"
    "    again = [sys.executable, '-c', sys.argv[2], str(int(sys.argv[1]) - 1), sys.argv[2]]\n"
    "    subprocess.Popen(again, start_new_session=True)\n"
    "print(flush=True)\n"
    "time.sleep(60)\n"
)


def test_all_below_a_process_are_found_and_killed() -> None:
    top = subprocess.Popen([sys.executable, "-c", TREE, "2", TREE], stdout=subprocess.PIPE)
    try:
        assert top.stdout
        for _ in range(3):
            top.stdout.readline()
        assert len(descendants(top.pid)) == 2
        found = find_orphans(top.pid)
        assert [one.process.pid for one in found] == descendants(top.pid)
        assert found[0].command[:2] == (sys.executable, "-c")
        assert kill_all(top.pid) == 2
        assert find_orphans(top.pid) == []
    finally:
        top.kill()
        top.communicate()


def test_what_is_about_to_end_is_waited_for() -> None:
    # A process of its own, since other children of this one may live as long as the tests.
    code = "import subprocess, sys; subprocess.Popen(['sleep', '0.3']); print(flush=True); input()"
    top = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert top.stdout is not None
        top.stdout.readline()
        assert len(find_orphans(top.pid, wait_s=0.0)) == 1
        began_s = time.monotonic()
        assert find_orphans(top.pid, wait_s=30.0) == []
        assert time.monotonic() - began_s < 30.0
    finally:
        top.kill()
        top.communicate()


def test_nothing_is_below_a_process_that_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert descendants(ended.pid) == []
