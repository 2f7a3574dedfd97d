"""System calls: the call that a thread is in, and the descriptor that it works on."""

import functools
import platform

# Those that a process may wait in, with their numbers: on x86-64, and on ARM and RISC-V, which
# share one table; -1 where there is none. The first argument of the second group is a descriptor.
_CALLS = """
poll 7 -1, ppoll 271 73, select 23 -1, pselect6 270 72, nanosleep 35 101, clock_nanosleep 230 115
wait4 61 260, waitid 247 95, futex 202 98, futex_waitv 449 449
epoll_wait 232 -1, epoll_pwait 281 22, epoll_pwait2 441 441
"""
_WITH_DESCRIPTOR = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69
pwritev 296 70, ioctl 16 29, sendfile 40 71, connect 42 203, accept 43 202, accept4 288 242
sendto 44 206, recvfrom 45 207, sendmsg 46 211, recvmsg 47 212, fcntl 72 25, flock 73 32
fsync 74 82, fdatasync 75 83
"""
_COLUMNS = {"x86_64": 1, "aarch64": 2, "riscv64": 2}


@functools.cache
def _table(text: str, machine: str) -> dict[int, str]:
    """The names by number; none for a machine that is not known."""
    column = _COLUMNS.get(machine)
    entries = [entry.split() for line in text.splitlines() for entry in line.split(",") if entry]
    return {int(entry[column]): entry[0] for entry in entries} if column else {}


def system_call(line: str, machine: str = platform.machine()) -> tuple[str, int]:
    """The call and its descriptor, -1 for none, from /proc/PID/task/TID/syscall.

    Args:
        line: its text: "running", or a number and arguments such as "0 0x5 0x7f...".
        machine: whose numbers they are.

    Returns:
        ("", -1) for a call that is not in the table, and for a thread that runs.
    """
    words = line.split()
    if len(words) < 2 or not words[0].isdecimal():
        return "", -1
    number = int(words[0])
    if name := _table(_WITH_DESCRIPTOR, machine).get(number):
        return name, int(words[1], 16)
    return _table(_CALLS, machine).get(number, ""), -1
