from typing import Any

import pytest
from tests.diagnose.built import frame, locked, process, runner, thread

from headway.diagnose.causes.waits import (
    Wait,
    in_foreign_code,
    is_lock_wait,
    is_service,
    is_timed,
    label,
    wait_of,
)
from headway.diagnose.evidence.facts import ThreadFacts

RECV = "SocketIO.readinto <std>/socket.py:706"


@pytest.mark.parametrize(
    ("facts", "wait"),
    [
        ({"state": "T", "call": "futex"}, Wait.STOPPED),
        ({"state": "t"}, Wait.STOPPED),
        ({"state": "Z"}, Wait.ENDED),
        ({"state": "D", "call": "write"}, Wait.DISK),
        ({"state": "R"}, Wait.RUNS),
        ({"cpu": 0.5, "call": "futex"}, Wait.RUNS),
        ({"call": "clock_nanosleep"}, Wait.SLEEP),
        ({"wait_channel": "hrtimer_nanosleep"}, Wait.SLEEP),
        ({"call": "fsync"}, Wait.DISK),
        ({"wait_channel": "folio_wait_bit_common"}, Wait.DISK),
        ({"call": "flock"}, Wait.FILE_LOCK),
        ({"wait_channel": "locks_lock_inode_wait"}, Wait.FILE_LOCK),
        ({"call": "connect"}, Wait.CONNECT),
        ({"call": "recvfrom"}, Wait.SOCKET),
        ({"call": "read", "descriptor": 0}, Wait.READ),
        ({"wait_channel": "anon_pipe_read"}, Wait.READ),
        ({"call": "write", "wait_channel": "pipe_write"}, Wait.WRITE),
        ({"wait_channel": "n_tty_write"}, Wait.WRITE),
        ({"state": "D", "wait_channel": "__refrigerator"}, Wait.STOPPED),
        ({"state": "S", "wait_channel": "do_freezer_trap"}, Wait.STOPPED),
        ({"call": "wait4"}, Wait.CHILD),
        ({"wait_channel": "do_wait"}, Wait.CHILD),
        ({"call": "poll"}, Wait.EVENTS),
        ({"wait_channel": "ep_poll"}, Wait.EVENTS),
        ({}, Wait.UNKNOWN),
    ],
)
def test_the_kernel_tells_what_a_thread_is_in(facts: dict[str, Any], wait: Wait) -> None:
    assert wait_of(ThreadFacts(1, **facts)) is wait


@pytest.mark.parametrize(
    ("calls", "wait"),
    [
        (("sem_wait@C", "PyThread_acquire_lock_timed@P", "f a.py:1"), Wait.LOCK),
        (("pthread_cond_timedwait@C", "take_gil@P", "f a.py:1"), Wait.GIL),
        (("pthread_cond_timedwait@C", "PyEval_RestoreThread@P", "f a.py:1"), Wait.GIL),
        (("0x7f@C", "pthread_cond_timedwait@C", "lock_PyThread_acquire_lock@P"), Wait.GIL),
        (("do_wait@/lib/libgomp.so.1", "f a.py:1"), Wait.NATIVE),
        (("pthread_cond_timedwait@C", "c10::wait@/lib/libtorch.so", "f a.py:1"), Wait.NATIVE),
        (("sem_wait@C", "_multiprocessing_SemLock_acquire@/lib/x.so"), Wait.SHARED_LOCK),
        (("SemLock.__enter__ <std>/multiprocessing/synchronize.py:95",), Wait.SHARED_LOCK),
        (("Condition.wait <std>/threading.py:327",), Wait.LOCK),
        (("f a.py:1",), Wait.NATIVE),
    ],
)
def test_the_stack_tells_which_lock_a_futex_is(calls: tuple[str, ...], wait: Wait) -> None:
    assert wait_of(thread(*calls, call="futex")) is wait
    assert wait_of(thread(*calls, wait_channel="futex_do_wait")) is wait


def test_the_line_tells_a_lock_where_compiled_code_cannot_be_read() -> None:
    assert wait_of(thread(frame("f a.py:1", "with self.lock:"), call="futex")) is Wait.LOCK
    assert wait_of(thread(frame("f a.py:1", "lock.acquire()"), call="futex")) is Wait.LOCK


def test_a_poll_in_the_network_modules_is_a_socket() -> None:
    assert wait_of(thread(RECV, call="poll")) is Wait.SOCKET
    opening = "create_connection <std>/socket.py:836"
    assert wait_of(thread(opening, call="poll")) is Wait.CONNECT


def test_who_looks_again_now_and_then_is_caught_running() -> None:
    select = "EpollSelector.select <std>/selectors.py:468"
    assert wait_of(thread(select, state="R", cpu=0.02)) is Wait.EVENTS
    assert wait_of(thread("Queue.get <std>/queue.py:180", state="R", cpu=0.02)) is Wait.LOCK
    assert wait_of(thread(RECV, state="R", cpu=0.02)) is Wait.SOCKET
    assert wait_of(thread(select, state="R", cpu=0.9)) is Wait.RUNS
    assert wait_of(thread("step train.py:9", state="R", cpu=0.02)) is Wait.RUNS


def test_a_kernel_that_tells_nothing_leaves_the_stack() -> None:
    assert wait_of(thread(frame("f a.py:1", "time.sleep(3)"))) is Wait.SLEEP
    assert wait_of(thread("Queue.get <std>/queue.py:171")) is Wait.LOCK


def test_a_wait_with_a_time_limit_looks_again() -> None:
    line = "gotit = waiter.acquire(True, timeout)"
    limited = frame("Condition.wait <std>/threading.py:331", line)
    endless = frame("Condition.wait <std>/threading.py:327", "waiter.acquire()")
    event = frame("Event.wait <std>/threading.py:629", "signaled = self._cond.wait(timeout)")
    assert is_timed(locked(limited, event))
    assert not is_timed(locked(endless, event))
    assert not is_timed(locked(frame("f a.py:1", "get(timeout=max(timeout, 0))")))


def test_lock_waits_are_told_by_their_code() -> None:
    assert is_lock_wait(thread("Queue.get <std>/queue.py:171"))
    assert is_lock_wait(thread(frame("f a.py:1", "future.result()")))
    assert not is_lock_wait(thread("f a.py:1"))
    assert not is_lock_wait(thread("sem_wait@C"))


def test_threads_of_libraries_that_always_wait() -> None:
    assert is_service(locked("TMonitor.run <site>/tqdm/_monitor.py:60"))
    assert is_service(locked("_worker <std>/concurrent/futures/thread.py:81"))
    assert is_service(locked("Pool._handle_tasks <std>/multiprocessing/pool.py:531"))
    bar = "_RefreshThread.run <site>/pytorch_lightning/callbacks/progress/rich_progress.py:83"
    assert is_service(thread(bar)), "it draws a bar again and again, whoever else waits"
    assert is_service(locked("_EventLoggerThread.run <site>/tensorboardX/event_file_writer.py:199"))
    task = ("fetch data.py:3", "_worker <std>/concurrent/futures/thread.py:83")
    assert not is_service(runner(*task)), "it has a task"
    assert not is_service(locked("f a.py:1"))


def test_foreign_code_is_that_of_other_libraries_than_pythons() -> None:
    assert in_foreign_code(thread("ffi_call@/lib/libffi.so.8", "f a.py:1"))
    assert not in_foreign_code(thread("read@C", "os_read@P", "f a.py:1"))
    assert not in_foreign_code(thread("f a.py:1", "ffi_call@/lib/libffi.so.8"))


def test_threads_are_named() -> None:
    one = process(7, runner(), locked(name="saver"), locked())
    assert [label(one, each) for each in one.threads] == [
        "the main thread",
        'thread "saver"',
        "thread 9",
    ]
