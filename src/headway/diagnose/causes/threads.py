"""Threads: deadlocks, and compiled code that keeps Python's global lock."""

from headway.base.errors import Remedy
from headway.diagnose.causes.roles import Spot, others_of, spots, waits_at_lock, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import (
    innermost,
    is_in,
    is_library,
    locks_named_in,
    name,
    own_frame,
    python_frames,
    short,
    where,
    where_is,
)
from headway.diagnose.causes.waits import Wait, in_foreign_code, is_timed, label, wait_of
from headway.diagnose.diagnosis import Diagnosis, Helps, StallCause
from headway.diagnose.evidence.facts import Evidence, Frame, ProcessFacts, ThreadFacts

_PATTERNS = ("match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer")
_IDLE = (Wait.SLEEP, Wait.EVENTS, Wait.LOCK, Wait.GIL)


def find_gil_held(evidence: Evidence) -> Diagnosis | None:
    """A thread in compiled code has Python's global lock, and the others wait for it."""
    for process in _processes(evidence):
        holder = next((one for one in process.threads if one.holds_gil), None)
        if holder is None or not _keeps_gil(process, holder, evidence.silent_s):
            continue
        num = sum(wait_of(one) is Wait.GIL for one in process.threads)
        # Where nobody competes for the lock, a long call cannot be told from many short ones.
        sure = num > 0 or evidence.silent_s > 0
        others = f"{num} of its threads wait{'s' if num == 1 else ''} for it"
        alone = "no other thread is running" + (
            "" if sure else "; many short calls would look alike"
        )
        called = ", ".join(_native_call(holder)) or where_is(holder)
        return diagnosis(
            StallCause.GIL_HELD,
            f"{who(process)}: compiled code called by {where(own_frame(holder))} keeps Python's "
            "global lock (GIL)",
            have=f"{label(process, holder)} is in {called} and uses {holder.cpu:.1f} cores; "
            + (others if num else alone),
            need="a call that ends, or that releases the lock while it works",
            remedies=_gil_remedies(process, holder),
            pid=process.pid,
            helps=None if sure else Helps.PATIENCE,
        )
    return None


def _keeps_gil(process: ProcessFacts, holder: ThreadFacts, silent_s: float) -> bool:
    waiting = any(wait_of(one) is Wait.GIL for one in process.threads if one is not holder)
    if wait_of(holder) is not Wait.RUNS:
        # Python gives the lock away before it waits; who waits with it is compiled code.
        return waiting or in_foreign_code(holder)
    alone = all(one.cpu < 0.1 for one in process.threads if one is not holder)
    if not alone or not _native_call(holder):
        return False
    return waiting or (_matches_a_pattern(holder) and not 0 < silent_s < 2)


def _native_call(thread: ThreadFacts) -> tuple[str, ...]:
    """The compiled functions on top of a stack, the one that Python called; readable ones."""
    if frame := _pattern_frame(thread):
        return (f"re.{name(frame)}",)
    names: list[str] = []
    for frame in thread.frames:
        if frame.file:
            break
        if not frame.function.startswith("0x"):
            names.append(frame.function)
    return tuple(names[-1:])


def _pattern_frame(thread: ThreadFacts) -> Frame | None:
    frame = innermost(thread)
    if frame is None or name(frame) not in _PATTERNS or not is_library(frame):
        return None
    return frame if is_in(frame, "re", "re/__init__", "regex") else None


def _matches_a_pattern(thread: ThreadFacts) -> bool:
    compiled = any("sre_" in one.function or "_SRE_" in one.function for one in thread.frames)
    return compiled or _pattern_frame(thread) is not None


def _gil_remedies(process: ProcessFacts, holder: ThreadFacts) -> tuple[Remedy, ...]:
    look = Remedy(f"py-spy dump --native --pid {process.pid}", "shows what the call is doing now")
    if _matches_a_pattern(holder):
        own = own_frame(holder)
        at = f"{own.file}:{own.line}" if own else "the pattern"
        return (
            Remedy(
                f"simplify the pattern in {at}",
                "a repeat inside a repeat, such as (a?)* or (a+)+, takes exponential time",
            ),
            Remedy("pip install google-re2", "its patterns take time proportional to the text"),
            look,
        )
    return (
        Remedy(
            "run that call in a separate process (multiprocessing), not in a thread",
            "the other threads then keep running",
        ),
        look,
    )


def find_deadlock(evidence: Evidence) -> Diagnosis | None:
    """Threads that wait for each other, or for nobody."""
    for spot in spots(evidence):
        process = spot.process
        found = _stuck_thread(process)
        if found is None:
            continue
        waiters = [found, *(one for one in _waiters(process) if one is not found)]
        what = _wanted(found)
        holder = _holder(process, found)
        return diagnosis(
            StallCause.DEADLOCK,
            f"{who(process)}: deadlock: {label(process, found)} waits for {what} "
            f"in {where(own_frame(found))}",
            have="; ".join((*_holding(process, found, holder), *_waiting(process, waiters))),
            need=_needed(found, holder),
            remedies=_lock_remedies(found, holder),
            pid=process.pid,
        )
    return None


def _stuck_thread(process: ProcessFacts) -> ThreadFacts | None:
    """The thread whose wait cannot end; None if one of the process may still end it."""
    main = process.main_thread
    if wait_of(main) is Wait.SHARED_LOCK:
        return main
    if not waits_at_lock(main) or is_timed(main):
        return None
    holder = _holder(process, main)
    if holder is main:
        return main
    if holder is not None:
        return main if waits_at_lock(holder) and not is_timed(holder) else None
    others = others_of(process)
    if all(waits_at_lock(one) for one in others):
        return main
    # At a plain lock, a thread that only sleeps or polls is not the one that has it.
    return main if _is_mutex(main) and all(wait_of(one) in _IDLE for one in others) else None


def _waiters(process: ProcessFacts) -> tuple[ThreadFacts, ...]:
    threads = (process.main_thread, *others_of(process))
    return tuple(one for one in threads if waits_at_lock(one))


def _is_mutex(thread: ThreadFacts) -> bool:
    """Whether it waits to take a lock, not for an item, an event or the end of a thread."""
    frame = innermost(thread)
    if frame is None or is_in(frame, "threading", "queue", "concurrent/futures/_base"):
        return False
    return ".acquire(" in frame.source or frame.source.startswith(("with ", "async with "))


def _wanted(thread: ThreadFacts) -> str:
    """What a thread waits for: 'the lock `self.lock`', 'an item from `queue`', ..."""
    own = own_frame(thread)
    named = locks_named_in(own.source) if own else ()
    said = f" `{named[-1]}`" if named else ""
    inner = innermost(thread)
    calls = [name(frame) for frame in python_frames(thread)]
    if inner and inner is not own:
        if is_in(inner, "queue") or "get" in calls[:3] or "put" in calls[:3]:
            return (
                f"room in the queue{said}"
                if "put" in calls[:3]
                else f"an item from{said or ' a queue'}"
            )
        if "join" in calls[:3]:
            return f"the end of thread{said}"
        if "result" in calls[:3]:
            return f"the result of{said or ' a future'}"
        if "wait" in calls[:3]:
            return f"the event{said}"
    if own and (".get(" in own.source):
        return f"an item from{said or ' a queue'}"
    return f"the lock{said}" if said else "a lock"


def _holder(process: ProcessFacts, thread: ThreadFacts) -> ThreadFacts | None:
    """The thread that stands in a `with` block of the lock that another one waits for."""
    own = own_frame(thread)
    wanted = {short(lock) for lock in (locks_named_in(own.source) if own else ())}
    if not wanted:
        return None
    if _stands_in(thread, wanted):
        return thread
    others = others_of(process) if thread is process.main_thread else process.threads
    return next((one for one in others if one is not thread and _stands_in(one, wanted)), None)


def _stands_in(thread: ThreadFacts, wanted: set[str]) -> bool:
    return any(
        short(lock) in wanted
        for frame in python_frames(thread)
        for block in frame.inside
        for lock in locks_named_in(block)
    )


def _holding(
    process: ProcessFacts, thread: ThreadFacts, holder: ThreadFacts | None
) -> tuple[str, ...]:
    if holder is None:
        return ()
    if holder is thread:
        return ("the same thread took it before, further up its stack",)
    return (f"{label(process, holder)} has it, in {where(own_frame(holder))}",)


def _waiting(process: ProcessFacts, waiters: list[ThreadFacts]) -> tuple[str, ...]:
    if len(waiters) == 1:
        return ("no other thread of the process runs code that could end the wait",)
    return tuple(
        f"{label(process, one)} waits for {_wanted(one)} in {where(own_frame(one))}"
        for one in waiters
    )


def _needed(thread: ThreadFacts, holder: ThreadFacts | None) -> str:
    if wait_of(thread) is Wait.SHARED_LOCK:
        return "the process that has the lock of multiprocessing; it may have been killed with it"
    if holder is thread:
        return "a lock that its own thread may take again"
    return "one thread that can proceed: locks taken in one order, waits with a time limit"


def _lock_remedies(thread: ThreadFacts, holder: ThreadFacts | None) -> tuple[Remedy, ...]:
    own = own_frame(thread)
    at = f"{own.file}:{own.line}" if own else "that place"
    if holder is thread:
        first = Remedy("threading.RLock() instead of threading.Lock()", f"for the lock in {at}")
    elif holder is not None:
        first = Remedy(
            f"take the two locks in one order, see {at}", "no thread then waits for both"
        )
    else:
        first = Remedy(
            f"give the wait in {at} a time limit (timeout=60)", "it then fails with a message"
        )
    return (first, Remedy("start it again", "a deadlock never ends by itself"))


def _processes(evidence: Evidence) -> tuple[ProcessFacts, ...]:
    """The processes that keep the job waiting, then all others with a Python stack."""
    first = [spot.process for spot in spots(evidence)]
    rest = [one for one in evidence.processes if one not in first]
    return tuple(dict.fromkeys((*first, *rest)))


GIL_HELD = CauseRow(
    StallCause.GIL_HELD,
    find_gil_held,
    "a thread that has Python's global lock is in compiled code, and no other thread is running",
    "shorten the call, simplify the pattern, or run it in a separate process",
)
DEADLOCK = CauseRow(
    StallCause.DEADLOCK,
    find_deadlock,
    "the main thread waits for a lock, a queue or a thread, and no thread can end the wait",
    "take locks in one order, use `RLock`, give each wait a time limit; start it again",
)


def stuck_at_lock(spot: Spot) -> ThreadFacts | None:
    """The thread of a process whose wait cannot end, for rows that explain it otherwise."""
    return _stuck_thread(spot.process)


def wanted(thread: ThreadFacts) -> str:
    """What a thread waits for, as a person says it."""
    return _wanted(thread)
