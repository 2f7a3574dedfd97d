"""A child's errors: the machine's are refusals, ours stay bugs."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headway.base.errors import Cause, Exit, UsageError
from headway.base.host import child_main
from headway.base.host.child_main import answer_request, run_child
from headway.base.process import PULSE_VARIABLE, REPORT_VARIABLE, Report


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


@dataclass(frozen=True)
class Question:
    text: str


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would reach the parent."""
    found: list[Any] = []
    monkeypatch.setattr(child_main, "end_with_parent", lambda: None)
    monkeypatch.setattr(child_main, "send_answer", found.append)
    monkeypatch.setattr(child_main, "report_refusal", found.append)
    return found


def test_a_request_is_answered(
    tmp_path: Path, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "question.json"
    file.write_bytes(msgspec.json.encode(Question("why?")))
    for path in (None, tmp_path / "a.pulse"):
        monkeypatch.setenv(PULSE_VARIABLE, str(path or ""))
        code = answer_request([str(file)], Question, lambda asked, pulse: (asked.text, pulse))
        assert (code, said.pop()) == (Exit.KEPT, ("why?", path))


def test_a_request_that_is_refused(tmp_path: Path, said: list[Any]) -> None:
    file = tmp_path / "question.json"
    file.write_bytes(msgspec.json.encode(Question("why?")))

    def refuse(*_: object) -> None:
        raise UsageError("no", cause=Cause.MODEL_INVALID)

    assert answer_request([str(file)], Question, refuse) == Exit.USAGE
    assert said[0].cause is Cause.MODEL_INVALID


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
