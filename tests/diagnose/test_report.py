"""Reports: every fact of a stall, printable, and without a planted secret."""

from headway.base.errors import Finding, Remedy
from headway.base.pulse import PulseReading
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import (
    DiskFacts,
    Evidence,
    Frame,
    GpuFacts,
    HeldLock,
    Link,
    MachineFacts,
    OpenFile,
    ProcessFacts,
    ThreadFacts,
)
from headway.diagnose.report import report_text

FRAMES = (
    Frame("futex_wait", "", 0, "/usr/lib/libc.so.6"),
    Frame("acquire", "/a/train.py", 7, source="lock.acquire()"),
)
PULSE = PulseReading(
    pid=10, rank=1, attempt=1, phase="training", phase_since=40.0, waiting="worker 0",
    waiting_since=70.0, beat=9, updated=95.0, done=0, total=0, unit="", rows=0, tokens=0,
    skipped=0, step=3, steps=8, global_step=3, loss=2.0,
)  # fmt: skip
PROCESS = ProcessFacts(
    10,
    parent=9,
    command=("python", "train.py", "--lr", "1"),
    role="worker 1",
    threads=(
        ThreadFacts(10, "MainThread", "S", "futex_do_wait", "futex", -1, 0.01, True, FRAMES),
        ThreadFacts(11, "python", "S", call="read", descriptor=5),
        ThreadFacts(12, "python", "S", call="read", descriptor=5),
    ),
    cpu=0.25,
    memory_bytes=2_000_000_000,
    read_bytes_per_s=3_000_000,
    debugger=77,
    open_files=(
        OpenFile(1, Link.FILE, "/a/log\x1b[31m"),
        OpenFile(4, Link.SOCKET, "socket:[5]", "1.2.3.4:443", "ESTABLISHED", 500),
        OpenFile(5, Link.FILE, "/a/data.jsonl", line=7),
    ),
    locks=(HeldLock("/a/x.lock", None), HeldLock("/a/y.lock", 33)),
    unread="py-spy is not installed: pip install py-spy",
)
MACHINE = MachineFacts(
    cores=4,
    memory_bytes=8_000_000_000,
    memory_free_bytes=1_000_000_000,
    swap_in_pages_per_s=300,
    disks=(DiskFacts("/a/runs", 5_000_000, 9_000_000_000),),
    gpus=(GpuFacts(0, "H200", 0.5, 1 << 30, 1 << 37, (10,)),),
)
DIAGNOSIS = Diagnosis(
    StallCause.DEADLOCK,
    Finding("warning", "a deadlock", "2 threads", "1", (Remedy("restart it", "helps"),)),
    Helps.RESTART,
    pid=10,
)
WANTED = (
    "a deadlock", "have  2 threads", "need  1", "try   restart it   helps",
    "cause deadlock, what helps: restart, process 10", "no progress for 12 s", "gone: worker 3",
    "4 cores, 1.0 GB of 8.0 GB memory free", "300 pages/s in", "disk of /a/runs: 5.0 MB of 9.0 GB",
    "GPU 0 H200: 50% busy, 1.1 GB of 137.4 GB, used by 10", "worker 1, process 10 of 9",
    "python train.py --lr 1",
    "training for 1 min, waiting for worker 0 for 30 s, after step 3 of 8, last sign of life 5.0 s",
    "0.25 cores, 2.0 GB memory", "3.0 MB/s read", "traced by process 77",
    "waits to lock /a/x.lock, held by nobody who is running", "held by process 33",
    "not read: py-spy is not installed", "thread 10 MainThread: waiting in futex, futex_do_wait",
    "holds the interpreter's lock", "futex_wait (libc.so.6)", "acquire /a/train.py:7",
    "lock.acquire()", "2 threads without calls of Python: waiting in read of descriptor 5",
    "5: /a/data.jsonl, line 7 is being read",
    "connection to 1.2.3.4:443 ESTABLISHED, 500 B not read",
)  # fmt: skip


def test_every_fact_is_told() -> None:
    evidence = Evidence((PROCESS,), MACHINE, (PULSE,), 100.0, 0.5, 12.0, (3,))
    text = report_text(evidence, DIAGNOSIS)
    assert [part for part in WANTED if part not in text] == []
    assert "\x1b" not in text


def test_no_secret_is_told() -> None:
    frame = Frame("login", "/a/t.py", 5, source="login(token='planted1')")
    process = ProcessFacts(
        10,
        command=("python", "--token=planted2"),
        threads=(ThreadFacts(10, frames=(frame,)),),
        open_files=(OpenFile(4, Link.FILE, "https://u:planted3@host/x"),),
    )
    finding = Finding("warning", "waits for https://u:planted4@host/x", "HF_TOKEN=planted5")
    told = report_text(Evidence((process,)), Diagnosis(StallCause.NETWORK, finding, Helps.PERSON))
    assert "planted" not in told
    assert "/a/t.py:5" in told


def test_without_processes_it_says_so() -> None:
    told = report_text(Evidence(()), DIAGNOSIS)
    assert "no process is left" in told
