"""Diagnosis display: the cause and what to do, then a line or two about each process."""

from collections.abc import Iterable
from pathlib import PurePath

from headway.base.pulse import PulseReading
from headway.base.units import plural, seconds
from headway.diagnose.answer import DiagnosisAnswer
from headway.diagnose.evidence.facts import Evidence, Frame, Link, ProcessFacts, ThreadFacts
from headway.diagnose.evidence.frames import own_frame
from headway.ui.styled import StyledLine, finding_lines, styled
from headway.ui.text_layout import cut, flow, fold, printable

MOST = 16  # processes that have lines of their own
_BUSY = 0.1  # cores: less is not worth a word
_SLEEPS = ("nanosleep", "clock_nanosleep")
_EVENTS = ("poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2")
_CHILDREN = ("wait4", "waitid")
_READS = ("read", "readv", "pread64", "preadv", "recvfrom", "recvmsg")
_WRITES = ("write", "writev", "pwrite64", "pwritev", "sendto", "sendmsg", "sendfile")


def diagnosis_lines(answer: DiagnosisAnswer, width: int) -> list[StyledLine]:
    """The output of `headway diagnose`, for a job that runs.

    Args:
        answer: with a diagnosis and its evidence.
        width: columns, 40 or more.
    """
    assert answer.diagnosis is not None, "it runs"
    assert answer.evidence is not None, "it runs"
    evidence = answer.evidence
    lines = styled(flow([printable(answer.job), *_heading(answer, evidence)], width))
    lines += finding_lines(answer.diagnosis.finding, width)
    pulses = {pulse.pid: pulse for pulse in evidence.pulses}
    shown = [process for process in evidence.processes if _is_shown(process)] or list(
        evidence.processes[:1]
    )
    for process in shown[:MOST]:
        pulse = pulses.get(process.pid)
        lines += [StyledLine(), *_process_lines(process, pulse, evidence.now_s, width)]
    left_out = len(evidence.processes) - min(len(shown), MOST)
    if left_out:
        lines += styled(["", f"and {plural(left_out, 'more process', 'more processes')}"], "dim")
    return lines + _unread_lines(evidence.processes, width)


def _heading(answer: DiagnosisAnswer, evidence: Evidence) -> list[str]:
    silent = [f"no progress for {seconds(evidence.silent_s)}"] if evidence.silent_s >= 1 else []
    return [answer.state, *silent]


def _is_shown(process: ProcessFacts) -> bool:
    return bool(process.role or _speaker(process).frames)


def _process_lines(
    process: ProcessFacts, pulse: PulseReading | None, now_s: float, width: int
) -> list[StyledLine]:
    thread = _speaker(process)
    who = [process.role, f"process {process.pid}"] if process.role else [f"process {process.pid}"]
    facts = [*who, *_doing(process, thread)]
    if process.cpu >= _BUSY:
        facts.append(f"{process.cpu:.1f} cores")
    lines = flow(map(printable, facts), width)
    if pulse:
        lines += [f"  {line}" for line in fold(_beat(pulse, now_s), width - 2)]
    frame = own_frame(thread.frames)
    return styled(lines) + styled(_frame_lines(frame, width) if frame else [], "dim")


def _speaker(process: ProcessFacts) -> ThreadFacts:
    """The thread that tells most: the main one if its calls are known, else one that has some."""
    main = process.main_thread
    return main if main.frames else next((one for one in process.threads if one.frames), main)


def _beat(pulse: PulseReading, now_s: float) -> str:
    if pulse.waiting:
        what = f"waiting for {pulse.waiting} for {seconds(now_s - pulse.waiting_since)}"
    else:
        what = f"{pulse.phase} for {seconds(now_s - pulse.phase_since)}"
    step = f", after step {pulse.step} of {pulse.steps}" if pulse.steps else ""
    return printable(what + step)


def _doing(process: ProcessFacts, thread: ThreadFacts) -> list[str]:
    """What a process does, in a few words; nothing where the kernel does not tell."""
    match process.main_thread.state:
        case "T":
            return ["stopped"]
        case "t":
            return [f"held by process {process.debugger}, a debugger"]
        case "Z" | "X":
            return ["has ended"]
        case "D":
            return ["waits for a disk or device"]
        case _:
            return [what] if (what := _call_text(process, thread)) else []


def _call_text(process: ProcessFacts, thread: ThreadFacts) -> str:
    if process.locks:
        return f"waits to lock {process.locks[0].path}"
    call = thread.call
    if call in _READS:
        return f"reads {_end_of(process, thread.descriptor)}"
    if call in _WRITES:
        return f"writes to {_end_of(process, thread.descriptor)}"
    if call == "connect":
        return f"connects to {_end_of(process, thread.descriptor)}"
    if call in _SLEEPS:
        return "sleeps"
    if call in _EVENTS:
        return "waits for events"
    if call in _CHILDREN:
        return "waits for a child"
    if call.startswith("futex"):
        return "waits for a lock or another thread"
    return {"R": "runs", "S": "waits"}.get(thread.state, "")


def _end_of(process: ProcessFacts, descriptor: int) -> str:
    """What a descriptor leads to, as a person would say it."""
    one = next((file for file in process.open_files if file.descriptor == descriptor), None)
    if descriptor == 0 and (one is None or one.link in (Link.TERMINAL, Link.PIPE)):
        return "standard input"
    if one is None:
        return f"descriptor {descriptor}"
    if one.link is Link.SOCKET:
        return one.peer or "a socket"
    return "a pipe" if one.link is Link.PIPE else one.path or f"descriptor {descriptor}"


def _frame_lines(frame: Frame, width: int) -> list[str]:
    """Where a process is: the function, the file and the line, and its text if there is room."""
    place = f"{frame.function} {_short(frame.file)}:{frame.line}"
    lines = [f"  {line}" for line in fold(place, width - 2)]
    if frame.source:
        lines.append(cut(f"    {printable(frame.source)}", width))
    return lines


def _short(file: str) -> str:
    """The last two parts of a path: enough to know the file, and to fit."""
    parts = PurePath(file).parts
    return file if len(parts) < 3 else "/".join(parts[-2:])


def _unread_lines(processes: Iterable[ProcessFacts], width: int) -> list[StyledLine]:
    """Why stacks are missing, each reason once."""
    reasons = dict.fromkeys(process.unread for process in processes if process.unread)
    lines: list[str] = []
    for reason in reasons:
        first, *rest = fold(f"not read: {reason}", width)
        lines += ["", first, *rest]
    return styled(lines, "dim")
