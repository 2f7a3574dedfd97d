"""Report of a diagnosis: the cause and all evidence, as plain text without secrets."""

from collections import Counter
from collections.abc import Iterator, Sequence

from headway.base.errors import four_parts
from headway.base.pulse import PulseReading
from headway.base.units import plural, seconds, share, size
from headway.diagnose.diagnosis import Diagnosis
from headway.diagnose.evidence.facts import (
    Evidence,
    Frame,
    Link,
    MachineFacts,
    OpenFile,
    ProcessFacts,
    ThreadFacts,
)
from headway.diagnose.redaction import hide_secrets

STATES = {
    "R": "running",
    "S": "waiting",
    "D": "waiting for a disk or device",
    "I": "idle",
    "T": "stopped",
    "t": "held by a debugger",
    "Z": "ended",
    "X": "ended",
}
_WIDTH = 100
_MOST_FILES = 60  # of a process that are listed
_LONGEST_COMMAND = 2000  # characters


def report_text(evidence: Evidence, diagnosis: Diagnosis) -> str:
    """What `stall-*.txt` holds: the cause and what to do, then every fact and all stacks."""
    finding = diagnosis.finding
    blame = f", process {diagnosis.pid}" if diagnosis.pid else ""
    lines = [
        *four_parts(finding.what, finding.have, finding.need, finding.remedies, _WIDTH),
        "",
        f"cause {diagnosis.cause}, what helps: {diagnosis.helps}{blame}",
        *_circumstances(evidence),
        "",
        *_machine(evidence.machine),
    ]
    pulses = {pulse.pid: pulse for pulse in evidence.pulses}
    for process in evidence.processes:
        lines += ["", *_process(process, pulses.get(process.pid), evidence.now_s)]
    return hide_secrets("\n".join(map(_printable, lines)) + "\n")


def _circumstances(evidence: Evidence) -> Iterator[str]:
    if evidence.silent_s:
        yield f"no progress for {seconds(evidence.silent_s)}"
    yield f"watched for {seconds(evidence.watched_s)}"
    if evidence.missing:
        yield "gone: worker " + ", ".join(map(str, evidence.missing))
    if not evidence.processes:
        yield "no process is left to look at"


def _machine(machine: MachineFacts) -> Iterator[str]:
    yield "machine"
    free, total = size(machine.memory_free_bytes), size(machine.memory_bytes)
    yield f"  {plural(machine.cores, 'core')}, {free} of {total} memory free"
    yield (
        f"  tasks waited for memory {share(machine.memory_pressure)} of the time, for disks "
        f"{share(machine.io_pressure)}"
    )
    swapped_in, swapped_out = machine.swap_in_pages_per_s, machine.swap_out_pages_per_s
    if swapped_in or swapped_out:
        yield f"  swap: {swapped_in:.0f} pages/s in, {swapped_out:.0f} pages/s out"
    if other := machine.other_work:
        yield f"  cores: {share(other.busy)} busy, {other.other_cores:.1f} for other processes"
        for fact in other.facts():
            yield f"  {fact}"
    for disk in machine.disks:
        yield f"  disk of {disk.path}: {size(disk.free_bytes)} of {size(disk.total_bytes)} free"
    for gpu in machine.gpus:
        memory = f"{size(gpu.memory_used_bytes)} of {size(gpu.memory_total_bytes)}"
        users = f", used by {', '.join(map(str, gpu.pids))}" if gpu.pids else ""
        yield f"  GPU {gpu.index} {gpu.name}: {share(gpu.busy)} busy, {memory}{users}"


def _process(process: ProcessFacts, pulse: PulseReading | None, now_s: float) -> Iterator[str]:
    role = f"{process.role}, " if process.role else ""
    yield f"{role}process {process.pid} of {process.parent}"
    yield "  " + " ".join(process.command).replace("\n", "\\n")[:_LONGEST_COMMAND]
    if pulse:
        yield f"  {_beat(pulse, now_s)}"
    yield (
        f"  {process.cpu:.2f} cores, {size(process.memory_bytes)} memory, "
        f"{size(process.swapped_bytes)} swapped, {process.major_faults_per_s:.0f} pages/s from disk"
    )
    read, written = process.read_bytes_per_s, process.written_bytes_per_s
    yield f"  disks: {size(read)}/s read, {size(written)}/s written"
    if process.debugger:
        yield f"  traced by process {process.debugger}"
    for lock in process.locks:
        holder = f"process {lock.holder}" if lock.holder else "nobody who is running"
        yield f"  waits to lock {lock.path}, held by {holder}"
    if process.unread:
        yield f"  not read: {process.unread}"
    yield from _threads(process.threads)
    yield from _open_files(process.open_files)


def _beat(pulse: PulseReading, now_s: float) -> str:
    parts = [f"{pulse.phase} for {seconds(now_s - pulse.phase_since)}"]
    if pulse.waiting:
        parts.append(f"waiting for {pulse.waiting} for {seconds(now_s - pulse.waiting_since)}")
    if pulse.steps:
        parts.append(f"after step {pulse.step} of {pulse.steps}")
    parts.append(f"last sign of life {seconds(now_s - pulse.updated)} ago")
    return ", ".join(parts)


def _threads(threads: Sequence[ThreadFacts]) -> Iterator[str]:
    """Each thread with calls, and the main thread; the others are counted by what they do."""
    others: Counter[str] = Counter()
    for at, thread in enumerate(threads):
        if at and not thread.frames:
            others[f"{STATES.get(thread.state, thread.state)}{_where(thread)}"] += 1
            continue
        gil = ", holds the interpreter's lock" if thread.holds_gil else ""
        doing = f"{STATES.get(thread.state, thread.state)}{_where(thread)}"
        yield f"  thread {thread.tid} {thread.name}: {doing}, {thread.cpu:.2f} cores{gil}"
        for frame in thread.frames:
            yield f"    {frame_text(frame)}"
    for doing, num in others.most_common():
        yield f"  {plural(num, 'thread')} without calls of Python: {doing}"


def _where(thread: ThreadFacts) -> str:
    call = thread.call + (f" of descriptor {thread.descriptor}" if thread.descriptor >= 0 else "")
    parts = [part for part in (call, thread.wait_channel) if part]
    return f" in {', '.join(parts)}" if parts else ""


def frame_text(frame: Frame) -> str:
    """A call in a line: where it is, and its source."""
    if not frame.file:
        return f"{frame.function} ({frame.module.rpartition('/')[2]})"
    source = f"   {frame.source}" if frame.source else ""
    return f"{frame.function} {frame.file}:{frame.line}{source}"


def _open_files(files: Sequence[OpenFile]) -> Iterator[str]:
    for one in files[:_MOST_FILES]:
        if one.link is Link.SOCKET and one.peer:
            unread = f", {size(one.received)} not read" if one.received else ""
            yield f"  {one.descriptor}: connection to {one.peer} {one.state}{unread}"
        else:
            line = f", line {one.line} is being read" if one.line else ""
            yield f"  {one.descriptor}: {one.path or one.link}{line}"
    if len(files) > _MOST_FILES:
        yield f"  and {len(files) - _MOST_FILES} more"


def _printable(line: str) -> str:
    """Names of files and processes hold whatever others put there."""
    return "".join(c if c.isprintable() else "�" for c in line)
