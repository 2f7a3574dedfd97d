"""Waits for a core are those of a process that others leave no core, and of nobody else."""

import os
import subprocess
import sys
import time

from tests.core_waits import CoreWaits

_SPIN = "import time\nprint(flush=True)\nwhile True: pass"


def spin(num: int) -> list["subprocess.Popen[bytes]"]:
    """So many processes that compute, all on one core."""
    core = {min(os.sched_getaffinity(0))}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _SPIN],
            stdout=subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, core),
        )
        for _ in range(num)
    ]
    for process in started:
        assert process.stdout
        process.stdout.readline()
    return started


def test_three_on_a_core_wait_for_it_and_a_sleeper_does_not() -> None:
    *others, watched = spin(3)
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        waits, sleeps = CoreWaits(watched.pid), CoreWaits(sleeper.pid)
        time.sleep(1.0)
        waited_s, slept_s = waits.since_last_s(), sleeps.since_last_s()
        assert waited_s > 0.3
        assert slept_s < waited_s
    finally:
        for process in (*others, watched, sleeper):
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
    assert CoreWaits(watched.pid).since_last_s() < 1  # one that has ended waits for nothing
