from tests.diagnose.built import evidence, frame, process, runner, sleeper, texts, thread

from headway.diagnose.causes.terminal import find_sleeping, find_standard_input
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


def test_a_sleep_is_named_with_its_line() -> None:
    naps = sleeper(frame("wait_for_model /w/train.py:12", "time.sleep(600)"))
    found = find_sleeping(evidence(process(7, naps)))
    assert found is not None
    assert found.cause is StallCause.SLEEPING
    assert "sleeps in wait_for_model (train.py:12)" in found.finding.what
    assert "time.sleep(600)" in found.finding.have
    assert "sed -n '7,14p' /w/train.py" in texts(found)
    assert find_sleeping(evidence(process(7, runner()))) is None
