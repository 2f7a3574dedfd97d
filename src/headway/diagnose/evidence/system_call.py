"""System call of a thread: what it waits in, on which descriptor or at which address."""

import platform
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")

# Calls in which a thread can wait, with their numbers on x86_64 and aarch64.
_CALLS = """
accept 43 202; accept4 288 242; clock_nanosleep 230 115; connect 42 203;
copy_file_range 326 285; epoll_pwait 281 22; epoll_pwait2 441 441; epoll_wait 232 -;
fallocate 285 47; fcntl 72 25; fdatasync 75 83; flock 73 32; fsync 74 82; futex 202 98;
io_getevents 208 4; ioctl 16 29; msync 26 227; nanosleep 35 101; openat 257 56; pause 34 -;
poll 7 -; ppoll 271 73; pread64 17 67; preadv 295 69; pselect6 270 72; pwrite64 18 68;
pwritev 296 70; read 0 63; readv 19 65; recvfrom 45 207; recvmmsg 299 243; recvmsg 47 212;
rt_sigsuspend 130 133; rt_sigtimedwait 128 137; select 23 -; semop 65 193;
semtimedop 220 192; sendfile 40 71; sendmsg 46 211; sendto 44 206; splice 275 76;
sync 162 81; sync_file_range 277 84; syncfs 306 267; wait4 61 260; waitid 247 95; write 1 64;
writev 20 66
"""
_MACHINES = ("x86_64", "aarch64")
_NUMBERS = {
    (machine, words[column]): words[0]
    for words in map(str.split, _CALLS.split(";"))
    for column, machine in enumerate(_MACHINES, 1)
}


class SystemCall(NamedTuple):
    """A call into the kernel, under way.

    Attributes:
        name: as in its manual page; "" where it cannot be read, or the thread runs.
        argument: its first: a descriptor, or the address that a futex waits at; -1 if unknown.
    """

    name: str = ""
    argument: int = -1


def system_call(pid: int, tid: int) -> SystemCall:
    """What a thread waits in; needs the same permission as reading its stack."""
    try:
        text = (_PROC / str(pid) / "task" / str(tid) / "syscall").read_text(encoding="ascii")
    except (OSError, ValueError):
        return SystemCall()
    return parse(text, platform.machine())


def parse(text: str, machine: str) -> SystemCall:
    """A line of /proc/PID/task/TID/syscall: "0 0x3 0x7f... ...", "-1 ..." or "running"."""
    number, _, rest = text.partition(" ")
    name = _NUMBERS.get((machine, number))
    try:
        return SystemCall(name, int(rest.split()[0], 16)) if name else SystemCall()
    except (IndexError, ValueError):
        return SystemCall()
