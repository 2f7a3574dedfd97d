"""Diagnosis display: every line fits, on a narrow terminal too."""

import pytest

from headway.base.errors import Finding, Remedy
from headway.base.pulse import PulseReading
from headway.diagnose.answer import DiagnosisAnswer
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import (
    Evidence,
    Frame,
    HeldLock,
    Link,
    OpenFile,
    ProcessFacts,
    ThreadFacts,
)
from headway.ui.show_diagnosis import MOST, diagnosis_lines

SITE = "/venv/lib/python3.11/site-packages"
FRAMES = (
    Frame("wait", "", 0, "/usr/lib/libc.so.6"),
    Frame("all_reduce", f"{SITE}/torch/distributed/distributed_c10d.py", 2800),
    Frame("train_step", "/home/a/long-name-of-a-project/scripts/train.py", 88, source="reduce(x)"),
)
PULSE = PulseReading(
    pid=10, rank=0, attempt=1, phase="training", phase_since=40.0, waiting="worker 1",
    waiting_since=70.0, beat=9, updated=95.0, done=0, total=0, unit="", rows=0, tokens=0,
    skipped=0, step=3, steps=8, global_step=3, loss=2.0,
)  # fmt: skip
FINDING = Finding(
    "warning",
    "worker 1 is stopped, and worker 0 waits for it",
    "state T since the last step",
    "all workers running",
    (Remedy("kill -CONT 11", "lets it go on"),),
)


def process(pid: int, role: str = "", **facts: object) -> ProcessFacts:
    return ProcessFacts(pid, role=role, **facts)  # type: ignore[arg-type]


def thread(state: str = "S", call: str = "", descriptor: int = -1) -> ThreadFacts:
    return ThreadFacts(10, "MainThread", state, call=call, descriptor=descriptor, frames=FRAMES)


def shown(*processes: ProcessFacts, width: int = 60, silent_s: float = 12.0) -> list[str]:
    evidence = Evidence(processes, pulses=(PULSE,), now_s=100.0, silent_s=silent_s)
    diagnosis = Diagnosis(StallCause.STOPPED, FINDING, Helps.PERSON, pid=11)
    answer = DiagnosisAnswer.of("notes", "training", evidence, diagnosis)
    return [line.text for line in diagnosis_lines(answer, width)]


def test_a_run_with_two_workers() -> None:
    assert shown(
        process(9, "supervisor", threads=(ThreadFacts(9, call="poll"),)),
        process(10, "worker 0", threads=(thread(call="futex"),), cpu=1.0),
        process(11, "worker 1", threads=(thread("T"),)),
        process(12),
        process(13),
    ) == [
        "notes · training · no progress for 12 s",
        "! worker 1 is stopped, and worker 0 waits for it",
        "  have  state T since the last step",
        "  need  all workers running",
        "  try   kill -CONT 11   lets it go on",
        "",
        "supervisor · process 9 · waits for events",
        "",
        "worker 0 · process 10 · waits for a lock or another thread",
        "1.0 cores",
        "  waiting for worker 1 for 30 s, after step 3 of 8",
        "  train_step scripts/train.py:88",
        "    reduce(x)",
        "",
        "worker 1 · process 11 · stopped",
        "  train_step scripts/train.py:88",
        "    reduce(x)",
        "",
        "and 2 more processes",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_too_wide(width: int) -> None:
    name = "a-function-with-a-name-that-nobody-would-expect-to-be-so-long"
    frames = (Frame(name, "/a/b.py", 5, source="x" * 120),)
    lines = shown(
        process(10, "worker 0", threads=(thread("D"), thread()), unread="sudo " + "y" * 100),
        process(11, threads=(ThreadFacts(11, frames=frames),)),
        width=width,
    )
    assert max(map(len, lines)) <= width
    assert any(line.startswith("not read: sudo") for line in lines)


@pytest.mark.parametrize(
    ("one", "doing"),
    [
        (thread("t"), "held by process 7, a debugger"),
        (thread("Z"), "has ended"),
        (thread("D"), "waits for a disk or device"),
        (thread("R"), "runs"),
        (thread("S"), "waits"),
        (thread("S", "read", 0), "reads standard input"),
        (thread("S", "recvfrom", 4), "reads 1.2.3.4:443"),
        (thread("S", "connect", 4), "connects to 1.2.3.4:443"),
        (thread("S", "write", 5), "writes to a pipe"),
        (thread("S", "read", 9), "reads descriptor 9"),
        (thread("S", "clock_nanosleep"), "sleeps"),
        (thread("S", "wait4"), "waits for a child"),
        (thread("S", "epoll_wait"), "waits for events"),
    ],
)
def test_what_a_process_does(one: ThreadFacts, doing: str) -> None:
    files = (
        OpenFile(0, Link.TERMINAL, "/dev/pts/0"),
        OpenFile(4, Link.SOCKET, "socket:[1]", "1.2.3.4:443"),
        OpenFile(5, Link.PIPE, "pipe:[5]"),
    )
    lines = shown(process(20, threads=(one,), debugger=7, open_files=files))
    assert f"process 20 · {doing}" in lines


def test_a_file_that_it_waits_to_lock() -> None:
    lines = shown(process(20, threads=(thread(),), locks=(HeldLock("/a.lock", None),)))
    assert "process 20 · waits to lock /a.lock" in lines


def test_nothing_is_said_of_silence_that_is_none() -> None:
    assert shown(process(10), silent_s=0.3)[0] == "notes · training"


def test_what_does_not_fit_is_counted() -> None:
    lines = shown(*(process(pid, "worker") for pid in range(100, 100 + MOST + 3)))
    assert lines[-1] == "and 3 more processes"


def test_a_name_cannot_move_the_cursor() -> None:
    lines = shown(process(10, "worker\x1b[2J", threads=(ThreadFacts(10, call="read"),)))
    assert not any("\x1b" in line for line in lines)
