"""Incident E: minutes of silence after "dataset loaded". Now something new at least every 2 s."""

import json
import os
import pty
import re
import select
import subprocess
import threading
import time
from pathlib import Path

from tests.core_waits import CoreWaits

from .conftest import Headway, until

ROWS = 12
EACH_S = 0.5


def drip(pipe: Path) -> None:
    """A source that yields slowly, and then not at all for a while."""
    with pipe.open("w", buffering=1) as file:
        for i in range(ROWS):
            file.write(json.dumps({"text": f"Row number {i} comes late. " * 12}) + "\n")
            time.sleep(EACH_S if i != ROWS // 2 else 4.5)


def test_off_a_terminal_status_tells_rows_tokens_and_what_is_awaited(headway: Headway) -> None:
    pipe = headway.here / "slow.jsonl"
    os.mkfifo(pipe)
    headway.write("first.txt", "Some text to make a model from. " * 40)
    assert headway("train", "first.txt", "--max-steps", 2).code == 0
    writer = threading.Thread(target=drip, args=(pipe,))
    writer.start()
    process = headway.start("train", "slow.jsonl", "--continue", "first", "--max-steps", 4)
    seen: list[dict[str, object]] = []
    while process.poll() is None:
        told = headway("status", "--json")
        if told.code == 0 and told.json["run"] != "first":
            seen.append(told.json)
    writer.join()
    _, err = process.communicate()
    assert process.returncode == 0, err
    planning = [s for s in seen if s["state"] == "planning"]
    assert any("slow.jsonl" in str(s["waiting_for"]) for s in planning)
    assert max(int(str(s["rows"])) for s in planning) >= ROWS - 2
    assert max(int(str(s["tokens"])) for s in planning) > 1000
    assert {"planning", "training"} & {str(s["state"]) for s in seen}
    assert all(float(str(s["last_news_s"])) < 2 for s in planning if s["last_news_s"] is not None)


def test_on_a_terminal_something_new_every_2_seconds_in_every_phase(headway: Headway) -> None:
    pipe = headway.here / "slow.jsonl"
    os.mkfifo(pipe)
    writer = threading.Thread(target=drip, args=(pipe,))
    writer.start()
    screen = Terminal(
        headway, "train", "slow.jsonl", "--preset", "tiny", "--max-steps", "20",
        "--eval-steps", "10", "--val-size", "2", "--sample-steps", "10", "--save-steps", "5",
    )  # fmt: skip
    code = screen.watch()
    writer.join()
    assert code == 0, screen.text[-2000:]
    assert screen.first_s < 0.5
    assert screen.silence_s < 2.0, f"silent for {screen.silence_s:.1f} s before {screen.after!r}"
    assert re.search(r"waiting for slow.jsonl", screen.text)
    assert re.search(r"\d+ rows", screen.text)
    assert re.search(r"[\d,]+ tokens", screen.text)


class Terminal:
    """A real terminal of 80 x 24, and a watch on when it shows something new.

    Seconds are without those in which other programs had all cores.
    """

    def __init__(self, headway: Headway, *words: str) -> None:
        self.last_s = time.monotonic()
        self.first_s = self.silence_s = 0.0
        self.text = self.after = ""
        self.ours, theirs = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = headway.environment | {"TERM": "xterm-256color"}
        environment.pop("COLUMNS")
        self.process = subprocess.Popen(
            headway.command(*words),
            cwd=headway.here,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self.waits = CoreWaits(self.process.pid)

    def watch(self) -> int:
        """Read until the end; what is drawn again without a change is nothing new."""
        shown: set[str] = set()
        while True:
            ready, _, _ = select.select([self.ours], [], [], 0.1)
            if not ready:
                if self.process.poll() is not None:
                    break
                continue
            try:
                data = os.read(self.ours, 65536).decode(errors="replace")
            except OSError:
                break
            self.text += data
            words = {
                w.strip() for w in re.split(r"[\r\n]|\x1b\[[0-9;?]*[A-Za-z]", data) if w.strip()
            }
            if not words - shown:
                continue
            now_s = time.monotonic()
            silent_s = now_s - self.last_s - self.waits.since_last_s()
            if not shown:
                self.first_s = silent_s
            if silent_s > self.silence_s:
                self.silence_s, self.after = silent_s, " ".join(words - shown)[:200]
            self.last_s = now_s
            shown = words  # a clock that comes round to an old reading is new again
        os.close(self.ours)
        return self.process.wait()


def test_the_first_line_does_not_wait_for_the_data(headway: Headway) -> None:
    pipe = headway.here / "never.jsonl"
    os.mkfifo(pipe)
    process = headway.start("plan", "never.jsonl", "--preset", "tiny")
    assert process.stdout
    line = process.stdout.readline()
    assert "plan never.jsonl" in line
    status = until(
        lambda: json.loads(headway("status", "--json").out or "{}").get("waiting_for"), 20
    )
    assert "never.jsonl" in status
    process.terminate()
    assert process.wait(10) == 75
    assert not (headway.here / "runs").exists()


def test_s07_a_first_step_that_takes_long_is_named_with_its_age(headway: Headway) -> None:
    """Between the last line of the start and step 1: which phase it is, and since when."""
    late = (
        "import time\n"
        "import headway.training.step as step\n"
        "real = step.Stepper._gradients\n"
        "def late(self, *given):\n"
        "    if self.at_step == 0:\n"
        "        time.sleep(6)\n"
        "    return real(self, *given)\n"
        "step.Stepper._gradients = late"
    )
    headway.write("notes.txt", "Some text to make a model from. " * 40)
    words = ("train", "notes.txt", "--preset", "tiny", "--max-steps", 3)
    process = headway.start(*words, **headway.mutate("late", late))

    def named() -> dict[str, object]:
        told = headway("status", "--json")
        seen = told.json if told.code == 0 else {}
        late_enough = seen.get("state") == "training" and float(seen["phase_since_s"]) > 2
        return seen if late_enough else {}

    seen = until(named, 120)
    assert (seen["phase"], seen["step"], seen["steps"]) == ("training", 0, 3)
    assert process.wait(120) == 0
