"""Terminal: waiting for standard input, and sleeping."""

from headway.base.errors import Remedy
from headway.diagnose.causes.roles import Spot, spots, who
from headway.diagnose.causes.row import CauseRow, diagnosis
from headway.diagnose.causes.stacks import innermost, own_frame, where, where_is
from headway.diagnose.causes.waits import Wait, wait_of
from headway.diagnose.diagnosis import Diagnosis, StallCause
from headway.diagnose.evidence.facts import Evidence, Link, OpenFile

_ASKS = (
    "input(",
    "sys.stdin",
    "getpass(",
    "breakpoint(",
    "set_trace(",
    "click.confirm(",
    "click.prompt(",
)


def find_standard_input(evidence: Evidence) -> Diagnosis | None:
    """A thread reads descriptor 0, and nothing comes."""
    for spot in spots(evidence):
        entry = _standard_input(spot)
        if entry is None or not _reads_it(spot):
            continue
        pipe = entry.link is not Link.TERMINAL
        return diagnosis(
            StallCause.STANDARD_INPUT,
            f"{who(spot.process)} waits for standard input",
            have=f"it reads from {'a pipe that stays empty' if pipe else entry.path}, asked for in "
            f"{where(own_frame(spot.thread))}",
            need="an answer, or a program that asks nothing",
            remedies=(
                Remedy("the program before the | in the command", "has to write, or to end")
                if pipe
                else Remedy("type the answer in its terminal", "and press Enter"),
                Remedy("< /dev/null", "at the end of the command: a question then fails at once"),
                Remedy(
                    "HF_HUB_DISABLE_IMPLICIT_TOKEN=1 TRUST_REMOTE_CODE=False",
                    "no library asks a question",
                )
                if not pipe
                else Remedy("yes | COMMAND", "answers y to each question"),
            ),
            pid=spot.process.pid,
        )
    return None


def find_held_terminal(evidence: Evidence) -> Diagnosis | None:
    """A thread writes to a terminal that takes nothing: somebody pressed Ctrl+S."""
    for spot in _writers(evidence, Link.TERMINAL):
        return diagnosis(
            StallCause.STOPPED,
            f"{who(spot.process)} cannot write to its terminal, which is held (Ctrl+S)",
            have=f"in {where_is(spot.thread)}",
            need="a terminal that takes output",
            remedies=(
                Remedy("press Ctrl+Q", "in that terminal: output continues"),
                Remedy("stty -ixon", "before the command: Ctrl+S then holds nothing"),
            ),
            pid=spot.process.pid,
        )
    return None


def find_full_pipe(evidence: Evidence) -> Diagnosis | None:
    """A thread writes to a pipe that is full, and nobody reads it."""
    for spot in _writers(evidence, Link.PIPE):
        starters = (one for one in evidence.processes if one.pid == spot.process.parent)
        waits = "".join(
            f"; {who(one)}, which started it, is in {where_is(one.main_thread)}"
            for one in starters
            if one.main_thread.frames
        )
        return diagnosis(
            StallCause.DEADLOCK,
            f"{who(spot.process)} writes to a pipe that nobody reads",
            have=f"descriptor {spot.thread.descriptor} is full, in {where_is(spot.thread)}" + waits,
            need="the process at the other end of the pipe to read it",
            remedies=(
                Remedy(
                    "subprocess.Popen.communicate() instead of wait()",
                    "in the program that started it: reads the pipe while it waits",
                ),
                Remedy("> train.log 2>&1", "at the end of the command: a file is never full"),
            ),
            pid=spot.process.pid,
        )
    return None


def _writers(evidence: Evidence, link: Link) -> list[Spot]:
    """Who waits to write to something of a kind."""
    return [
        spot
        for spot in spots(evidence)
        if wait_of(spot.thread) is Wait.WRITE
        and any(
            one.link is link and one.descriptor == spot.thread.descriptor
            for one in spot.process.open_files
        )
    ]


def _standard_input(spot: Spot) -> OpenFile | None:
    """What it asks: descriptor 0, or the terminal itself, as a program does for a password."""
    asked = max(spot.thread.descriptor, 0)
    found = next((one for one in spot.process.open_files if one.descriptor == asked), None)
    waits = (Link.TERMINAL, Link.PIPE, Link.SOCKET) if asked == 0 else (Link.TERMINAL,)
    return found if found and found.link in waits else None


def _reads_it(spot: Spot) -> bool:
    thread = spot.thread
    if thread.call in ("read", "readv"):
        return True
    if thread.wait_channel.startswith("n_tty_read"):
        return True
    frame = innermost(thread)
    asks = bool(frame and any(one in frame.source for one in _ASKS))
    return asks and wait_of(thread) in (Wait.READ, Wait.EVENTS, Wait.UNKNOWN)


def find_sleeping(evidence: Evidence) -> Diagnosis | None:
    """A thread that should be working sleeps."""
    for spot in spots(evidence):
        if wait_of(spot.thread) is not Wait.SLEEP:
            continue
        own = own_frame(spot.thread)
        return diagnosis(
            StallCause.SLEEPING,
            f"{who(spot.process)} sleeps in {where_is(spot.thread)}",
            have="in time.sleep" + (f": {own.source}" if own and own.source else ""),
            need="what it sleeps for: a file, a server, a retry that the code there knows",
            remedies=(
                Remedy(
                    f"py-spy dump --pid {spot.process.pid}",
                    "twice: shows whether it sleeps again and again",
                ),
                *(
                    (
                        Remedy(
                            f"sed -n '{max(1, own.line - 5)},{own.line + 2}p' {own.file}",
                            "shows why it sleeps",
                        ),
                    )
                    if own and own.line
                    else ()
                ),
            ),
            pid=spot.process.pid,
        )
    return None


STANDARD_INPUT = CauseRow(
    StallCause.STANDARD_INPUT,
    find_standard_input,
    "a thread reads descriptor 0, which is a terminal or a pipe",
    "answer it, or `< /dev/null`",
)
HELD_TERMINAL = CauseRow(
    StallCause.STOPPED,
    find_held_terminal,
    "a thread waits to write to its terminal",
    "Ctrl+Q in that terminal",
)
FULL_PIPE = CauseRow(
    StallCause.DEADLOCK,
    find_full_pipe,
    "a thread waits to write to a pipe",
    "`communicate()` instead of `wait()`, or a file for the output",
)
SLEEPING = CauseRow(
    StallCause.SLEEPING,
    find_sleeping,
    "the thread that should be working is in `time.sleep`",
    "run `py-spy dump` twice; see what that code is waiting for",
)
