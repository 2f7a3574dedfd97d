"""Processes without /proc: a real one, as psutil sees it."""

import subprocess
import sys

from headway.diagnose.evidence.without_proc import look_at

CODE = "import sys\nprint(flush=True)\nwhile True: pass"


def test_a_process_that_computes_and_one_that_is_gone() -> None:
    command = [sys.executable, "-c", CODE, "--token", "planted"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        gone = 2**22 + 1
        found = look_at([child.pid, gone], 0.2)
        child.kill()
    assert set(found) == {child.pid}
    facts = found[child.pid]
    assert facts.cpu > 0.01
    assert facts.command[-2:] == ("--token", "...")
    assert facts.memory_bytes > 1_000_000
    assert facts.main_thread.state in ("R", "S")
