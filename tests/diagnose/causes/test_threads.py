from tests.diagnose.built import (
    evidence,
    frame,
    locked,
    process,
    receiver,
    runner,
    sleeper,
    texts,
    thread,
)

from headway.diagnose.causes.threads import find_deadlock, find_gil_held
from headway.diagnose.diagnosis import Helps, StallCause

MATCH = ("sre_ucs1_match@P", "_sre_SRE_Pattern_match@P", "match <std>/re/__init__.py:166")
WAITS_FOR_GIL = ("pthread_cond_timedwait@C", "PyEval_RestoreThread@P", "loop train.py:30")
SAVE = frame("save train.py:13", "with self.weights:", "with self.file:")
STEP = frame("step train.py:20", "with self.file:", "with self.weights:")


# -- Python's global lock


def test_a_pattern_in_a_thread_keeps_the_lock() -> None:
    holder = runner(*MATCH, "clean data.py:12", name="cleaner", holds_gil=True)
    found = find_gil_held(evidence(process(7, thread(*WAITS_FOR_GIL, call="futex"), holder)))
    assert found is not None
    assert (found.cause, found.pid) == (StallCause.GIL_HELD, 7)
    assert "clean (data.py:12)" in found.finding.what
    assert 'thread "cleaner" is in re.match' in found.finding.have
    assert "1 of its threads waits" in found.finding.have
    assert "data.py:12" in found.finding.remedies[0].do


def test_compiled_code_that_waits_with_the_lock_is_named() -> None:
    holder = thread(
        *("clock_nanosleep@C", "ffi_call@/lib/libffi.so.8", "PyCFuncPtr_call@/lib/_ctypes.so"),
        "call_library bind.py:8",
        call="clock_nanosleep",
        holds_gil=True,
    )
    found = find_gil_held(evidence(process(7, thread(*WAITS_FOR_GIL, call="futex"), holder)))
    assert found is not None
    assert "call_library (bind.py:8)" in found.finding.what
    assert "PyCFuncPtr_call" in found.finding.have
    assert "multiprocessing" in texts(found)


def test_a_pattern_alone_in_its_process_is_told_unless_something_has_just_moved() -> None:
    alone = process(7, runner(*MATCH, "clean data.py:12", holds_gil=True))
    found = find_gil_held(evidence(alone, silent_s=30.0))
    assert found is not None
    assert found.helps is Helps.PERSON
    unsure = find_gil_held(evidence(alone))
    assert unsure is not None
    assert (unsure.helps, unsure.finding.kind) == (Helps.PATIENCE, "ok")
    assert "many short calls would look alike" in unsure.finding.have
    assert find_gil_held(evidence(alone, silent_s=0.5)) is None


def test_python_code_that_computes_is_not_accused() -> None:
    computes = runner("step train.py:9", holds_gil=True)
    waits = thread(*WAITS_FOR_GIL, call="futex")
    assert find_gil_held(evidence(process(7, computes, waits))) is None
    assert find_gil_held(evidence(process(7, computes))) is None


def test_a_thread_that_has_just_woken_up_is_not_accused() -> None:
    asleep = sleeper("clock_nanosleep@C", "time_sleep@P", "loop train.py:3", holds_gil=True)
    assert find_gil_held(evidence(process(7, asleep))) is None


def test_threads_that_share_the_lock_are_not_accused() -> None:
    busy = runner(*MATCH, "clean data.py:12", holds_gil=True, cpu=0.5)
    other = runner("step train.py:9", cpu=0.5)
    assert find_gil_held(evidence(process(7, busy, other))) is None


# -- deadlocks


def test_two_locks_taken_in_two_orders() -> None:
    found = find_deadlock(evidence(process(7, locked(STEP), locked(SAVE, name="saver"))))
    assert found is not None
    assert (found.cause, found.helps) == (StallCause.DEADLOCK, Helps.RESTART)
    assert "the main thread waits for the lock `self.file` in step (train.py:20)" in texts(found)
    assert 'thread "saver" has it, in save (train.py:13)' in found.finding.have
    assert 'thread "saver" waits for the lock `self.weights`' in found.finding.have
    assert "in one order" in found.finding.remedies[0].do


def test_a_lock_that_its_own_thread_has() -> None:
    inner = frame("on_step train.py:30", "with self.lock:")
    outer = frame("step train.py:20", "self.on_step()", "with self.lock:")
    heartbeat = sleeper("beat train.py:3", name="heartbeat")
    found = find_deadlock(evidence(process(7, locked(inner, outer), heartbeat)))
    assert found is not None
    assert "same thread took it" in found.finding.have
    assert "RLock" in found.finding.remedies[0].do


def test_a_lock_taken_twice_without_with_while_a_heartbeat_goes_on() -> None:
    twice = locked(frame("on_step train.py:30", "lock.acquire()"))
    heartbeat = sleeper("beat train.py:3", name="heartbeat")
    found = find_deadlock(evidence(process(7, twice, heartbeat)))
    assert found is not None
    assert "the lock `lock`" in found.finding.what


def test_a_queue_that_nobody_fills() -> None:
    waits = locked(
        frame("Condition.wait <std>/threading.py:327", "waiter.acquire()"),
        frame("Queue.get <std>/queue.py:171", "self.not_empty.wait()"),
        frame("next_batch train.py:20", "return batches.get()"),
    )
    found = find_deadlock(evidence(process(7, waits)))
    assert found is not None
    assert "an item from `batches` in next_batch (train.py:20)" in found.finding.what
    timed = frame("Condition.wait <std>/threading.py:331", "gotit = waiter.acquire(True, timeout)")
    again = locked(timed, *waits.frames[3:])
    assert find_deadlock(evidence(process(7, again))) is None, "it looks again"


def test_a_join_of_a_thread_that_waits() -> None:
    join = locked(
        frame("Thread.join <std>/threading.py:1119", "self._wait_for_tstate_lock()"),
        frame("finish train.py:20", "writer.join()"),
    )
    done = locked(
        frame("Condition.wait <std>/threading.py:327", "waiter.acquire()"),
        frame("Event.wait <std>/threading.py:629", "signaled = self._cond.wait(timeout)"),
        frame("write train.py:7", "done.wait()"),
        name="writer",
    )
    found = find_deadlock(evidence(process(7, join, done)))
    assert found is not None
    assert "the end of thread `writer`" in found.finding.what
    assert "the event `done`" in found.finding.have


def test_a_lock_of_processes() -> None:
    waits = thread(
        *("sem_wait@C", "_multiprocessing_SemLock_acquire@/lib/_multiprocessing.so"),
        frame("put train.py:7", "with lock:"),
        call="futex",
    )
    found = find_deadlock(evidence(process(7, waits)))
    assert found is not None
    assert "multiprocessing" in found.finding.need


def test_a_lock_whose_owner_gets_on_is_no_deadlock() -> None:
    """Whatever the owner does is the cause: it receives, computes or sleeps."""
    waits = locked(frame("step train.py:20", "with cache:"))
    for owner in (receiver, runner, sleeper):
        has = owner(frame("fetch train.py:5", "get()", "with cache:"), name="fetcher")
        assert find_deadlock(evidence(process(7, waits, has))) is None, owner


def test_a_queue_that_a_working_thread_fills_is_no_deadlock() -> None:
    waits = locked(
        frame("Condition.wait <std>/threading.py:327", "waiter.acquire()"),
        frame("Queue.get <std>/queue.py:171", "self.not_empty.wait()"),
        frame("next_batch train.py:20", "return batches.get()"),
    )
    for producer in (runner("read data.py:3"), receiver("read data.py:3"), sleeper("x a.py:3")):
        assert find_deadlock(evidence(process(7, waits, producer))) is None


def test_threads_that_always_wait_end_no_wait() -> None:
    waits = locked(frame("step train.py:20", "with cache:"))
    monitor = locked(
        frame("Condition.wait <std>/threading.py:331", "gotit = waiter.acquire(True, timeout)"),
        "TMonitor.run <site>/tqdm/_monitor.py:60",
    )
    idle = locked("_worker <std>/concurrent/futures/thread.py:81")
    assert find_deadlock(evidence(process(7, waits, monitor, idle))) is not None


def test_compiled_code_that_waits_is_no_lock_of_python() -> None:
    openmp = thread("do_wait@/lib/libgomp.so.1", "step train.py:9", call="futex")
    assert find_deadlock(evidence(process(7, openmp))) is None
