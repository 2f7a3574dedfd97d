from tests.diagnose.built import evidence, frame, process, runner, sleeper, texts, thread

from headway.diagnose.causes.terminal import (
    find_full_pipe,
    find_held_terminal,
    find_sleeping,
    find_standard_input,
)
from headway.diagnose.diagnosis import StallCause
from headway.diagnose.evidence.facts import Link, OpenFile

TERMINAL = OpenFile(0, Link.TERMINAL, "/dev/pts/3")
PIPE = OpenFile(0, Link.PIPE, "pipe:[77]")
ASKS = thread(frame("ask train.py:3", 'input("Overwrite?")'), call="read", descriptor=0)


def test_a_question_at_a_terminal() -> None:
    found = find_standard_input(evidence(process(7, ASKS, open_files=(TERMINAL,))))
    assert found is not None
    assert (found.cause, found.pid) == (StallCause.STANDARD_INPUT, 7)
    assert "reads from /dev/pts/3, asked for in ask (train.py:3)" in found.finding.have
    assert "< /dev/null" in texts(found)


def test_a_pipe_that_stays_empty() -> None:
    found = find_standard_input(evidence(process(7, ASKS, open_files=(PIPE,))))
    assert found is not None
    assert "a pipe" in found.finding.have


def test_a_question_through_readline_polls_the_terminal() -> None:
    polls = thread(frame("ask train.py:3", 'input("Overwrite?")'), call="pselect6")
    assert find_standard_input(evidence(process(7, polls, open_files=(TERMINAL,)))) is not None


def test_other_reads_are_no_questions() -> None:
    reads = thread("load train.py:3", call="read", descriptor=4)
    assert find_standard_input(evidence(process(7, reads, open_files=(PIPE,)))) is None
    nothing = OpenFile(0, Link.OTHER, "/dev/null")
    assert find_standard_input(evidence(process(7, ASKS, open_files=(nothing,)))) is None
    assert find_standard_input(evidence(process(7, runner(), open_files=(PIPE,)))) is None


def test_a_password_is_asked_at_the_terminal_itself() -> None:
    asks = thread(frame("unix_getpass <std>/getpass.py:77", "fd"), call="read", descriptor=3)
    terminal = OpenFile(3, Link.TERMINAL, "/dev/tty")
    nothing = OpenFile(0, Link.OTHER, "/dev/null")
    found = find_standard_input(evidence(process(7, asks, open_files=(nothing, terminal))))
    assert found is not None
    assert "/dev/tty" in found.finding.have


def test_a_terminal_that_is_held() -> None:
    writes = thread("show train.py:3", call="write", descriptor=1, wait_channel="n_tty_write")
    terminal = OpenFile(1, Link.TERMINAL, "/dev/pts/3")
    found = find_held_terminal(evidence(process(7, writes, open_files=(terminal,))))
    assert found is not None
    assert found.cause is StallCause.STOPPED
    assert "Ctrl+Q" in texts(found)
    assert find_full_pipe(evidence(process(7, writes, open_files=(terminal,)))) is None


def test_a_pipe_that_nobody_reads() -> None:
    writes = thread("show train.py:3", call="write", descriptor=1, wait_channel="pipe_write")
    pipe = OpenFile(1, Link.PIPE, "pipe:[9]")
    waits = thread("Popen.wait <std>/subprocess.py:1264", "run main.py:3", call="wait4")
    child = process(8, writes, parent=7, open_files=(pipe,))
    found = find_full_pipe(evidence(process(7, waits), child))
    assert found is not None
    assert (found.cause, found.pid) == (StallCause.DEADLOCK, 8)
    assert "process 7, which started it, is in Popen.wait" in found.finding.have
    assert find_held_terminal(evidence(process(7, waits), child)) is None
    file = OpenFile(1, Link.FILE, "/tmp/a")
    saves = thread("save train.py:3", call="write", descriptor=1)
    assert find_full_pipe(evidence(process(7, saves, open_files=(file,)))) is None


def test_a_sleep_is_named_with_its_line() -> None:
    naps = sleeper(frame("wait_for_model /w/train.py:12", "time.sleep(600)"))
    found = find_sleeping(evidence(process(7, naps)))
    assert found is not None
    assert found.cause is StallCause.SLEEPING
    assert "sleeps in wait_for_model (train.py:12)" in found.finding.what
    assert "time.sleep(600)" in found.finding.have
    assert "sed -n '7,14p' /w/train.py" in texts(found)
    assert find_sleeping(evidence(process(7, runner()))) is None
