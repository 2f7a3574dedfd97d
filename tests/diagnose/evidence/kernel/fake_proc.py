"""A folder that looks like /proc."""

from pathlib import Path

TICKS_PER_S = 100
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


def socket_line(local: str, remote: str, state: str, received: str, inode: int) -> str:
    """A line of /proc/net/tcp."""
    queues = f"00000000:{received}"
    return f"   0: {local} {remote} {state} {queues} 00:00000000 00000000  0 0 {inode} 1 0\n"


def stat_line(pid: int, parent: int = 1, state: str = "S", *, name: str = "python", cpu: int = 0,
              faults: int = 0, started: int = 500) -> str:  # fmt: skip
    """The line of /proc/PID/stat; `cpu` in ticks."""
    fields = [state, str(parent), *["0"] * 7, str(faults), "0", str(cpu), "0", *["0"] * 6]
    return f"{pid} ({name}) {' '.join(fields)} {started} 0 0\n"


def add_process(proc: Path, pid: int, parent: int = 1, state: str = "S", *, name: str = "python",
                cpu: int = 0, faults: int = 0, started: int = 500, threads: tuple[int, ...] = (),
                command: str = "python\0train.py\0") -> Path:  # fmt: skip
    """A process with its main thread and more."""
    process = proc / str(pid)
    (process / "fd").mkdir(parents=True, exist_ok=True)
    numbers = {"cpu": cpu, "faults": faults, "started": started}
    (process / "stat").write_text(stat_line(pid, parent, state, name=name, **numbers))
    (process / "cmdline").write_text(command)
    (process / "comm").write_text(name + "\n")
    for tid in (pid, *threads):
        task = process / "task" / str(tid)
        task.mkdir(parents=True, exist_ok=True)
        (task / "stat").write_text(stat_line(tid, parent, state, name=name, cpu=cpu))
        (task / "comm").write_text(f"{name}\n")
        (task / "wchan").write_text("0")
    return process


def link(process: Path, descriptor: int, target: str) -> None:
    """An open descriptor."""
    (process / "fd" / str(descriptor)).symlink_to(target)
