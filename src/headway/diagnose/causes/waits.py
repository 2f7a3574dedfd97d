"""Wait of a thread: a lock, the interpreter's lock, a disk, the network, a child, or none."""

from enum import StrEnum

from headway.diagnose.causes.stacks import find_frame, innermost, is_in, name, symbols
from headway.diagnose.evidence.facts import ProcessFacts, ThreadFacts

BUSY = 0.3  # cores from which a thread counts as computing, also where it has to share them


class Wait(StrEnum):
    """What a thread is in."""

    RUNS = "runs"
    STOPPED = "stopped"
    ENDED = "ended"
    LOCK = "lock"  # of threads: a lock, a queue, a join
    GIL = "gil"
    SHARED_LOCK = "shared_lock"  # of processes
    SLEEP = "sleep"
    FILE_LOCK = "file_lock"
    DISK = "disk"
    SOCKET = "socket"
    CONNECT = "connect"
    WRITE = "write"  # to a pipe or a terminal
    READ = "read"  # a pipe or a terminal
    CHILD = "child"
    EVENTS = "events"  # of several descriptors
    NATIVE = "native"  # something that compiled code waits for
    UNKNOWN = "unknown"


_BY_CALL = {
    **dict.fromkeys(("nanosleep", "clock_nanosleep"), Wait.SLEEP),
    **dict.fromkeys(("wait4", "waitid"), Wait.CHILD),
    **dict.fromkeys(("recvfrom", "recvmsg", "sendto", "sendmsg", "accept", "accept4"), Wait.SOCKET),
    **dict.fromkeys(("fsync", "fdatasync", "pwrite64", "pwritev", "msync", "syncfs"), Wait.DISK),
    **dict.fromkeys(("poll", "ppoll", "select", "pselect6"), Wait.EVENTS),
    **dict.fromkeys(("epoll_wait", "epoll_pwait", "epoll_pwait2"), Wait.EVENTS),
    "connect": Wait.CONNECT,
    "flock": Wait.FILE_LOCK,
    "fcntl": Wait.FILE_LOCK,
    "read": Wait.READ,
    "readv": Wait.READ,
}
# What the kernel has a process do that a control group has frozen, as `docker pause` does.
FROZEN = ("__refrigerator", "do_freezer_trap", "get_signal_freeze")
# Beginnings of the kernel functions that threads wait in; newer kernels have other endings.
_BY_CHANNEL = (
    (("hrtimer_nanosleep", "do_nanosleep", "common_nsleep"), Wait.SLEEP),
    (("do_wait", "kernel_wait"), Wait.CHILD),
    (("pipe_read", "anon_pipe_read", "n_tty_read"), Wait.READ),
    (("pipe_write", "anon_pipe_write", "n_tty_write", "tty_write"), Wait.WRITE),
    (("locks_lock", "flock_lock", "fcntl_setlk", "posix_lock"), Wait.FILE_LOCK),
    (("poll_schedule", "do_poll", "do_select", "do_sys_poll", "ep_poll"), Wait.EVENTS),
    (("inet_stream_connect", "__inet_stream_connect", "inet_wait_for_connect"), Wait.CONNECT),
    (("sk_wait_data", "unix_stream_read", "unix_stream_data_wait", "tcp_recvmsg"), Wait.SOCKET),
    (("inet_csk_accept", "inet_csk_wait", "wait_woken"), Wait.SOCKET),
    (("balance_dirty", "folio_wait", "wait_on_page", "jbd2_", "wbt_", "rq_qos"), Wait.DISK),
    (("percpu_rwsem_wait", "__percpu_rwsem", "sb_start_write", "submit_bio_wait"), Wait.DISK),
)
_LOCK_MODULES = ("threading", "queue", "concurrent/futures/_base", "concurrent/futures/thread")
_EVENT_MODULES = ("selectors", "multiprocessing/connection")
_TIME_LIMITS = ("acquire(True, timeout)", "timeout=max(timeout", "wait(remaining)")
_NETWORK_MODULES = ("socket", "ssl", "http", "urllib", "urllib3", "httpcore", "httpx", "aiohttp")
_SERVICES = (
    ("tqdm/_monitor", "run"),
    ("rich/live", "run"),
    ("pytorch_lightning/callbacks/progress/rich_progress", "run"),
    ("lightning/pytorch/callbacks/progress/rich_progress", "run"),
    ("tensorboardX/event_file_writer", "run"),
    ("tensorboard/summary/writer/event_file_writer", "run"),
    ("torch/_inductor/compile_worker/subproc_pool", "_read_thread"),
    ("multiprocessing/pool", "_handle_workers"),
    ("multiprocessing/pool", "_handle_tasks"),
    ("multiprocessing/pool", "_handle_results"),
    ("multiprocessing/queues", "_feed"),
    ("torch/utils/data/_utils/pin_memory", "_pin_memory_loop"),
    ("concurrent/futures/process", "wait_result_broken_or_wakeup"),
)
_GIL = ("take_gil", "PyEval_RestoreThread", "PyEval_AcquireThread", "PyGILState_Ensure")


def wait_of(thread: ThreadFacts) -> Wait:
    """What a thread is in, from its state, its system call and its stack."""
    by_state = {"T": Wait.STOPPED, "t": Wait.STOPPED, "Z": Wait.ENDED, "X": Wait.ENDED}
    if thread.state in by_state:
        return by_state[thread.state]
    if thread.wait_channel.startswith(FROZEN):
        return Wait.STOPPED
    if thread.state == "D":
        return Wait.DISK
    if thread.cpu >= BUSY or (thread.state == "R" and not _polls(thread)):
        return Wait.RUNS
    if thread.call == "futex" or thread.wait_channel.startswith("futex"):
        return _futex_wait(thread)
    found = _by_channel(thread.wait_channel) if thread.call in ("", "write") else None
    found = found or _BY_CALL.get(thread.call)
    if found in (Wait.EVENTS, Wait.READ, None) and _is_network(thread):
        connects = find_frame(thread, "socket", functions=("create_connection", "connect"))
        return Wait.CONNECT if connects else Wait.SOCKET
    return found or _by_stack(thread)


def _polls(thread: ThreadFacts) -> bool:
    """Whether its code waits: who looks again now and then is caught running."""
    frame = innermost(thread)
    waits = (*_LOCK_MODULES, *_EVENT_MODULES, *_NETWORK_MODULES)
    return bool(frame and is_in(frame, *waits))


def _by_channel(channel: str) -> Wait | None:
    return next((wait for starts, wait in _BY_CHANNEL if channel.startswith(starts)), None)


def _is_network(thread: ThreadFacts) -> bool:
    frame = innermost(thread)
    return bool(frame and is_in(frame, *_NETWORK_MODULES))


def _by_stack(thread: ThreadFacts) -> Wait:
    """For a kernel that tells neither call nor channel."""
    frame = innermost(thread)
    if frame is None:
        return Wait.UNKNOWN
    if is_in(frame, *_EVENT_MODULES):
        return Wait.EVENTS
    if is_lock_wait(thread):
        return Wait.LOCK
    return Wait.SLEEP if "sleep(" in frame.source else Wait.UNKNOWN


def _futex_wait(thread: ThreadFacts) -> Wait:
    """Which kind of lock it is: Python's, the interpreter's, one of processes or of native code."""
    called = symbols(thread)
    if any("SemLock" in one for one in called) or find_frame(
        thread, "multiprocessing/synchronize", functions=("__enter__", "acquire")
    ):
        return Wait.SHARED_LOCK
    if any(one.startswith("PyThread_acquire_lock") for one in called):
        return Wait.LOCK
    if any(one in _GIL for one in called):
        return Wait.GIL
    if any(one.startswith("pthread_cond_timedwait") for one in called) and not in_foreign_code(
        thread
    ):
        return Wait.GIL
    if is_lock_wait(thread):
        return Wait.LOCK
    return Wait.NATIVE


def in_foreign_code(thread: ThreadFacts) -> bool:
    """Whether a library other than Python's and C's is among the innermost native calls."""
    python = ("libpython", "libc.", "libc-", "libpthread", "ld-linux", "/python", "_queue")
    return any(
        frame.module and not any(one in frame.module for one in python)
        for frame in thread.frames[: len(symbols(thread))]
    )


def is_lock_wait(thread: ThreadFacts) -> bool:
    """Whether the innermost Python code is such that waits for other threads."""
    frame = innermost(thread)
    if frame is None:
        return False
    if is_in(frame, *_LOCK_MODULES):
        return True
    taking = (".acquire(", ".join(", ".wait(", ".get(", ".put(", ".result(")
    code = frame.source
    return code.startswith(("with ", "async with ")) or any(one in code for one in taking)


def is_timed(thread: ThreadFacts) -> bool:
    """Whether it waits for a lock with a time limit, so that it looks again."""
    return any(
        limit in frame.source
        for frame in thread.frames
        if is_in(frame, *_LOCK_MODULES)
        for limit in _TIME_LIMITS
    )


def is_service(thread: ThreadFacts) -> bool:
    """Whether it waits for work and keeps nobody waiting, such as a thread of tqdm."""
    frame = innermost(thread)
    if frame and is_in(frame, "concurrent/futures/thread") and name(frame) == "_worker":
        return True  # a pool's thread without a task
    return any(find_frame(thread, place, functions=(run,)) for place, run in _SERVICES)


def label(process: ProcessFacts, thread: ThreadFacts) -> str:
    """'the main thread', 'thread "saver"'."""
    if thread.tid in (process.pid, process.main_thread.tid):
        return "the main thread"
    return f'thread "{thread.name}"' if thread.name else f"thread {thread.tid}"
