"""Evidence values, built by hand: what is not said is as in a process that waits for nothing."""

from collections.abc import Sequence
from typing import Any

from headway.base.host.contention import OtherWork
from headway.base.pulse import PulseReading
from headway.diagnose.evidence.facts import (
    Evidence,
    Frame,
    Link,
    MachineFacts,
    OpenFile,
    ProcessFacts,
    ThreadFacts,
)

STANDARD = "/usr/lib/python3.12"
SITE = f"{STANDARD}/site-packages"
C = "/lib/libc.so.6"
PYTHON = "/usr/lib/libpython3.12.so.1.0"
LOCKED = ("pthread_cond_wait@C", "PyThread_acquire_lock_timed@P")


def frame(text: str, source: str = "", *inside: str) -> Frame:
    """'step train.py:12', 'Queue.get <std>/queue.py:171', 'sem_wait@C' for native code."""
    if "@" in text:
        symbol, _, library = text.partition("@")
        return Frame(symbol, "", 0, {"C": C, "P": PYTHON}.get(library, library))
    function, _, place = text.partition(" ")
    file, _, line = place.replace("<std>", STANDARD).replace("<site>", SITE).rpartition(":")
    return Frame(function, file, int(line), source=source, inside=inside)


def thread(*calls: str | Frame, tid: int = 0, **facts: Any) -> ThreadFacts:
    frames = tuple(one if isinstance(one, Frame) else frame(one) for one in calls)
    return ThreadFacts(tid, frames=frames, **facts)


def process(pid: int, *threads: ThreadFacts, **facts: Any) -> ProcessFacts:
    """The first thread is the main one; its CPU is the sum of its threads' if none is given."""
    numbered = tuple(
        ThreadFacts(
            pid + at,
            *(one.name, one.state, one.wait_channel, one.call, one.descriptor),
            *(one.cpu, one.holds_gil, one.frames),
        )
        for at, one in enumerate(threads or (ThreadFacts(pid),))
    )
    known: dict[str, Any] = {"command": ("python", "train.py"), "cpu": sum(t.cpu for t in threads)}
    return ProcessFacts(pid, threads=numbered, **(known | facts))


def evidence(*processes: ProcessFacts, **facts: Any) -> Evidence:
    machine = {key: facts.pop(key) for key in list(facts) if key in MachineFacts.__annotations__}
    return Evidence(processes, MachineFacts(**({"cores": 8} | machine)), **facts)


def sleeper(*calls: str | Frame, **facts: Any) -> ThreadFacts:
    known = {"call": "clock_nanosleep", "wait_channel": "hrtimer_nanosleep"}
    return thread(*(calls or ("wait train.py:7",)), **(known | facts))


def locked(*calls: str | Frame, **facts: Any) -> ThreadFacts:
    """A thread at one of Python's locks."""
    return thread(*LOCKED, *calls, **({"call": "futex"} | facts))


def runner(*calls: str | Frame, **facts: Any) -> ThreadFacts:
    return thread(*(calls or ("step train.py:9",)), **({"state": "R", "cpu": 0.95} | facts))


def receiver(*calls: str | Frame, **facts: Any) -> ThreadFacts:
    return thread(*calls, **({"call": "recvfrom", "descriptor": 5} | facts))


def connection(
    state: str = "ESTABLISHED", descriptor: int = 5, peer: str = "10.0.0.7:443"
) -> OpenFile:
    return OpenFile(descriptor, Link.SOCKET, "socket:[1]", peer, state)


def work(**facts: float) -> OtherWork:
    known = {"seconds": 0.5, "cores": 8, "other_cores": 0.0, "busy": 0.2, "steal": 0.0}
    return OtherWork(**(known | {"throttled": 0.0} | facts))


def pulse(**facts: Any) -> PulseReading:
    known: dict[str, Any] = {"pid": 1, "rank": 0, "attempt": 1, "phase": "training"}
    known |= {"phase_since": 0.0, "waiting": "", "waiting_since": 0.0, "beat": 1, "updated": 0.0}
    known |= {"done": 0, "total": 0, "unit": "", "rows": 0, "tokens": 0, "skipped": 0}
    return PulseReading(**(known | {"step": 3, "steps": 10, "global_step": 3, "loss": 2.0} | facts))


def texts(found: Any) -> str:
    """All that a person reads of a diagnosis."""
    finding = found.finding
    remedies: Sequence[Any] = finding.remedies
    lines = [finding.what, finding.have, finding.need]
    return "\n".join([*lines, *(f"{one.do} {one.gives}" for one in remedies)])
