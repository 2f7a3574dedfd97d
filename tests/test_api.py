"""plan() and train() in a program that has signal handlers of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from headway.supervise.live.runtime_folder import runtime_folder

LIMIT_S = 240
TEXT = "All work and no play makes Jack a dull boy. " * 200
SCRIPT = """
import signal, sys
import headway
from headway.base.errors import Refusal

def mine(number, frame):
    print("mine", flush=True)

def outcome(error):
    receipt = getattr(error, "receipt", None)
    return [receipt.outcome] if receipt else []

signal.signal(signal.SIGUSR1, mine)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
before = [signal.getsignal(n) for n in SIGNALS]
try:
    got = {call}
    print("got", getattr(got, "outcome", "a plan"))
except Refusal as refusal:
    print("refused", int(refusal.code), refusal.cause, *outcome(refusal))
except BaseException as error:
    print("raised", type(error).__name__, error, *outcome(error))
assert [signal.getsignal(n) for n in SIGNALS] == before, "handlers are not restored"
print("restored", flush=True)
signal.raise_signal(signal.SIGUSR1)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("Ctrl+C works")
"""
AFTER = ["restored", "mine", "Ctrl+C works"]


class Script:
    """A program that calls Headway, in a process of its own with a standard input that waits."""

    def __init__(self, call: str, here: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY")}
        environment |= {"XDG_CACHE_HOME": str(here / "cache"), "TMPDIR": str(here)}
        self.here = here
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.replace("{call}", call)],
            cwd=here,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def lines(self) -> list[str]:
        """What it printed, once it has ended by itself."""
        out, err = self.process.communicate(timeout=LIMIT_S)
        assert self.process.returncode == 0, out + err
        assert not self.live(), "something of the job is left"
        return [line for line in out.splitlines() if not line.startswith("kept")]

    def is_planning(self) -> bool:
        return any((live / "planner.pulse").exists() for live in self.live())

    def live(self) -> list[Path]:
        """What there is of its live folder."""
        return list(runtime_folder().glob(f"{self.process.pid}-*"))

    def num_steps(self) -> int:
        log = self.here / "runs" / "notes" / "events.jsonl"
        return log.read_text().count('"step_done"') if log.exists() else 0

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in path.read_text().split()]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Callable[[str], Script]]:
    (tmp_path / "notes.txt").write_text(TEXT)
    started: list[Script] = []

    def start(call: str) -> Script:
        started.append(Script(call, tmp_path))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def until(what: Callable[[], Any]) -> None:
    end_s = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < end_s, "it took too long"
        time.sleep(0.02)


PLAN = 'headway.plan("-", preset="tiny")'
TRAIN = 'headway.train("-", preset="tiny", quiet=True)'
LONG = 'headway.train("notes.txt", preset="tiny", max_steps=100000, quiet=True)'


def test_after_a_plan_the_handlers_are_those_of_before(script: Callable[[str], Script]) -> None:
    assert script('headway.plan("notes.txt", preset="tiny")').lines() == ["got a plan", *AFTER]


def test_after_a_refusal_the_handlers_are_those_of_before(script: Callable[[str], Script]) -> None:
    told = script('headway.plan("nowhere.txt", preset="tiny")').lines()
    assert told[0].startswith("refused")
    assert told[1:] == AFTER


@pytest.mark.parametrize("call", [PLAN, TRAIN])
def test_interrupted_before_step_1_it_raises_keyboardinterrupt(
    script: Callable[[str], Script], call: str
) -> None:
    one = script(call)
    until(one.is_planning)
    one.process.send_signal(signal.SIGINT)
    assert one.lines() == ["raised KeyboardInterrupt ", *AFTER]


@pytest.mark.parametrize("call", [PLAN, TRAIN])
def test_ended_before_step_1_it_refuses_with_75(script: Callable[[str], Script], call: str) -> None:
    one = script(call)
    until(one.is_planning)
    one.process.send_signal(signal.SIGTERM)
    assert one.lines() == ["refused 75 stopped", *AFTER]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "raised KeyboardInterrupt  interrupted"),
        (signal.SIGTERM, "refused 75 stopped interrupted"),
    ],
)
def test_interrupted_between_steps_it_saves_and_raises_with_the_receipt(
    script: Callable[[str], Script], number: signal.Signals, said: str
) -> None:
    one = script(LONG)
    until(lambda: one.num_steps() >= 2)
    one.process.send_signal(number)
    assert one.lines() == [said, *AFTER]
    assert (one.here / "runs" / "notes" / "model").exists()


def test_interrupted_while_it_imports_it_raises_without_a_receipt(
    script: Callable[[str], Script],
) -> None:
    one = script(LONG)
    until(lambda: (one.here / "runs" / "notes" / "plan.json").exists())
    one.process.send_signal(signal.SIGINT)
    assert one.lines() == ["raised KeyboardInterrupt ", *AFTER]


@pytest.mark.parametrize(
    ("call", "second", "said"),
    [
        ("plan", signal.SIGTERM, "raised SystemExit 75"),
        ("train", signal.SIGINT, "raised KeyboardInterrupt "),
        ("train", signal.SIGTERM, "raised SystemExit 75"),
    ],
)
def test_f04_a_second_signal_leaves_the_call_at_once(
    script: Callable[[str], Script], call: str, second: signal.Signals, said: str
) -> None:
    """Processes of its own that are stopped answer nobody; it leaves all the same."""
    one = script(PLAN if call == "plan" else LONG)
    until(one.is_planning if call == "plan" else lambda: one.num_steps() >= 1)
    children = one.children()
    for child in children:
        os.kill(child, signal.SIGSTOP)
    if call == "train":
        one.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert one.process.poll() is None
    else:  # while it plans the first one is enough, so both must arrive before it looks;
        # signals that arrive together are handled in the order of their numbers
        os.kill(one.process.pid, signal.SIGSTOP)
        one.process.send_signal(signal.SIGINT)
    one.process.send_signal(second)
    os.kill(one.process.pid, signal.SIGCONT)
    assert one.lines() == [said, *AFTER]
    assert not any(Path(f"/proc/{child}").exists() for child in children)


IN_PYTHON = """
import headway
from headway.base.errors import Refusal

def refused(call):
    try:
        call()
    except Refusal as error:
        print(error)

refused(lambda: headway.train("notes.txt", max_lenght=128, learning_rate="fast"))
refused(lambda: headway.plan("notes.txt", preset="tiny", max_length=100_000, exact=True))
refused(lambda: headway.plan("notes.txt", model="no-such-folder"))
plan = headway.plan("notes.txt", preset="tiny", max_steps=2)
print(repr(plan))
print(plan._repr_html_())
"""


def test_what_a_program_sees_is_python(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(TEXT)
    done = subprocess.run(
        [sys.executable, "-c", IN_PYTHON],
        cwd=tmp_path,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=True,
        timeout=LIMIT_S,
    )
    *refusals, line, table = done.stdout.splitlines()
    tries = [one.removeprefix("  try   ") for one in refusals if one.startswith("  try")]
    assert "max_length=128   maximum tokens per row" in tries
    assert "learning_rate=0.0002   peak learning rate" in tries
    assert sum(one.startswith("max_length=") for one in tries) >= 2
    assert any(one.startswith('preset="') for one in tries)
    assert not any("--" in one for one in refusals)
    assert line.startswith("<Plan notes: 2 steps of ")
    assert table.startswith("<table>")
