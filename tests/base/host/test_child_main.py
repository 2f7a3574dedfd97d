"""A child's errors: the machine's are refusals, ours stay bugs."""

import os
import subprocess
import sys
import time

import msgspec
import pytest

from headway.base.errors import Cause
from headway.base.host.child_main import run_child
from headway.base.process import REPORT_VARIABLE, Report


def test_its_arguments_and_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["child", "a", "b"])
    assert run_child(len) == 2


def test_what_the_machine_causes_reaches_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.pipe()
    monkeypatch.setenv(REPORT_VARIABLE, str(theirs))

    def main(_: list[str]) -> int:
        raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

    assert run_child(main) == 2
    os.close(theirs)
    report = msgspec.json.decode(os.read(ours, 1 << 16), type=Report)
    os.close(ours)
    assert report.refused is not None
    assert report.refused.findings[0].cause is Cause.MISSING_PACKAGE


def test_a_bug_stays_one() -> None:
    def main(_: list[str]) -> int:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        run_child(main)


PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
from headway.base.host.child_main import end_with_parent
import time
end_with_parent()
print("ready", flush=True)
time.sleep(60)
'''], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it looks at its parent each step")
def test_f18_o04_a_worker_dies_with_its_supervisor() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(200):
        if not _runs(child):
            return
        time.sleep(0.01)
    pytest.fail(f"process {child} outlived its parent")


def _runs(pid: int) -> bool:
    """Whether it is alive; dead and not yet collected is dead."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
