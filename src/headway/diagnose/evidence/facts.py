"""Facts about processes, their threads and the machine, as they were read from outside."""

from dataclasses import dataclass
from enum import StrEnum

from headway.base.host.contention import OtherWork
from headway.base.pulse import PulseReading


@dataclass(frozen=True)
class Frame:
    """One call in a stack.

    Attributes:
        function: its name; for native code the symbol.
        file: as the interpreter knows it, "" for native code.
        line: 0 where unknown.
        module: the dotted name of its module, or the library of native code, "" where unknown.
        source: text of the line (`source_line`), "" where unknown.
        inside: the `with` statements around it, the innermost first.
    """

    function: str
    file: str
    line: int = 0
    module: str = ""
    source: str = ""
    inside: tuple[str, ...] = ()


@dataclass(frozen=True)
class ThreadFacts:
    """A thread of a process.

    Attributes:
        tid: the kernel's number; 0 for a thread of an older Python that does not know it.
        name: Python's, else the kernel's.
        state: the kernel's letter: R running, S waiting, D waiting for a disk or device, T stopped,
            t held by a debugger, Z ended.
        wait_channel: the kernel function that it waits in, "" where it cannot be read.
        call: the system call that it is in, "read", "futex", ...; "" where that is unknown.
        descriptor: that the call works on, as "read" does; -1 for none.
        cpu: cores that it used while it was watched.
        holds_gil: whether it held the interpreter's lock.
        frames: its calls, the innermost first; empty where they could not be read.
    """

    tid: int
    name: str = ""
    state: str = "S"
    wait_channel: str = ""
    call: str = ""
    descriptor: int = -1
    cpu: float = 0.0
    holds_gil: bool = False
    frames: tuple[Frame, ...] = ()


class Link(StrEnum):
    """What a descriptor leads to."""

    FILE = "file"
    PIPE = "pipe"
    TERMINAL = "terminal"
    SOCKET = "socket"
    OTHER = "other"


@dataclass(frozen=True)
class OpenFile:
    """An open descriptor.

    Attributes:
        descriptor: its number.
        link: what kind it is.
        path: of a file, pipe or terminal, as /proc has it.
        peer: "HOST:PORT" at the other end of a connection, "" otherwise.
        state: of a connection, as /proc/net has it: "ESTABLISHED", "SYN_SENT", ...
        received: bytes that wait to be read, of a connection.
        line: of a file of text, that is being read; 0 where unknown.
    """

    descriptor: int
    link: Link
    path: str = ""
    peer: str = ""
    state: str = ""
    received: int = 0
    line: int = 0


@dataclass(frozen=True)
class HeldLock:
    """A file that a process waits to lock, and who holds it.

    Attributes:
        path: of the file.
        holder: pid; None if nobody runs who does.
    """

    path: str
    holder: int | None


@dataclass(frozen=True)
class ProcessFacts:
    """A process, watched for a moment.

    Attributes:
        pid: its number.
        parent: its parent's number.
        command: its arguments, credentials left out.
        role: what it is in the job, as a person would say it: "worker 2 of 4", "loader", "".
        threads: the main thread first.
        cpu: cores that it used.
        read_bytes_per_s: from disks.
        written_bytes_per_s: to disks.
        memory_bytes: resident.
        swapped_bytes: of its memory.
        major_faults_per_s: pages that had to be read from a disk.
        debugger: pid of the process that traces it, 0 for none.
        open_files: what it has open.
        locks: files that it waits to lock.
        unread: why stacks or other facts could not be read, with the line that allows it; "".
    """

    pid: int
    parent: int = 0
    command: tuple[str, ...] = ()
    role: str = ""
    threads: tuple[ThreadFacts, ...] = ()
    cpu: float = 0.0
    read_bytes_per_s: float = 0.0
    written_bytes_per_s: float = 0.0
    memory_bytes: int = 0
    swapped_bytes: int = 0
    major_faults_per_s: float = 0.0
    debugger: int = 0
    open_files: tuple[OpenFile, ...] = ()
    locks: tuple[HeldLock, ...] = ()
    unread: str = ""

    @property
    def main_thread(self) -> ThreadFacts:
        """The first thread; one without facts if none could be read."""
        return self.threads[0] if self.threads else ThreadFacts(self.pid)


@dataclass(frozen=True)
class DiskFacts:
    """A disk that the job writes to or reads from."""

    path: str
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class GpuFacts:
    """A GPU, as its driver tells it.

    Attributes:
        index: its number.
        name: of the card.
        busy: share of the time in which it computed.
        memory_used_bytes, memory_total_bytes: of its memory.
        pids: processes that use it.
    """

    index: int
    name: str
    busy: float
    memory_used_bytes: int
    memory_total_bytes: int
    pids: tuple[int, ...] = ()


@dataclass(frozen=True)
class MachineFacts:
    """The machine, watched for the same moment.

    Attributes:
        cores: that the job may use.
        memory_bytes, memory_free_bytes: of the machine, or its limit.
        swap_in_pages_per_s, swap_out_pages_per_s: pages moved from and to the swap area.
        memory_pressure: share of the time in which tasks waited for memory (PSI, some, 10 s).
        io_pressure: the same for disks.
        disks: of the folders that matter to the job.
        gpus: there are.
        other_work: what others took; None where it cannot be read.
    """

    cores: int = 1
    memory_bytes: int = 0
    memory_free_bytes: int = 0
    swap_in_pages_per_s: float = 0.0
    swap_out_pages_per_s: float = 0.0
    memory_pressure: float = 0.0
    io_pressure: float = 0.0
    disks: tuple[DiskFacts, ...] = ()
    gpus: tuple[GpuFacts, ...] = ()
    other_work: OtherWork | None = None


@dataclass(frozen=True)
class Evidence:
    """All that was read for one diagnosis.

    Attributes:
        processes: the job's: the one that was asked about first, then the workers by rank, then all
            their children.
        machine: that they run on.
        pulses: of the workers of a run of Headway, by rank.
        now_s: CLOCK_MONOTONIC, at the end.
        watched_s: how long rates were measured.
        silent_s: how long nobody has seen progress; 0 if that is not known.
        missing: ranks that are gone.
    """

    processes: tuple[ProcessFacts, ...]
    machine: MachineFacts = MachineFacts()
    pulses: tuple[PulseReading, ...] = ()
    now_s: float = 0.0
    watched_s: float = 0.0
    silent_s: float = 0.0
    missing: tuple[int, ...] = ()
