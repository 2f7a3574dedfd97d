"""How soon: from typing to the first finished step, and to an answer on the screen."""

import json
import shlex
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from chats import BATCH, NUM_CHATS, SAME
from contenders import Bench, Entry, Trial
from inputs import chats
from report import Figures, Measurement, Target
from trials import HEADWAY, HERE, PEERS, first_line_s, headway, run, seconds

FIRST = "first step, s"
ANSWERS = 10


def first_step_measured(bench: Bench) -> Measurement:
    """What a person waits for who wants to see a loss."""
    folder = bench.folder / "first"
    folder.mkdir()
    (folder / "chats.jsonl").write_text(chats(NUM_CHATS))
    words = (*SAME, "--batch-size", str(BATCH))
    work = bench.work("first", "chats", "chats.jsonl", words)
    ours = ["chats.jsonl", *words, "--tokenizer", "tokenizer", "--max-steps", "1"]

    def headway_trial(trial: Path) -> Figures:
        started, steps = headway(ours, work.folder, trial)
        return {FIRST: steps.ends[0] - started}

    def script(name: str) -> Trial:
        def trial(place: Path) -> Figures:
            result = place / "result.json"
            command = [sys.executable, str(PEERS / name), str(work.folder), str(result)]
            started = time.time()
            run(command, work.folder, place / "cache")
            return {FIRST: json.loads(result.read_text())["first_step"] - started}

        return trial

    entries = [
        Entry("Trainer", "`peers/first_trainer.py`", script("first_trainer.py")),
        Entry("TRL", "`peers/first_trl.py`", script("first_trl.py")),
        Entry("Headway", f"`headway train {shlex.join(ours)}`", headway_trial),
    ]
    return Measurement(
        title="From typing to the first finished step",
        what=f"{NUM_CHATS:,} chats, {work.plan['model']['parameters'] / 1e6:.0f}M, bf16, {BATCH} "
        "chats a step, from the start of the process to the end of step 1.",
        notes=(
            "The scripts of the others are what a person would write, from the imports on; "
            "Headway's time holds its plan and its probes.",
        ),
        contenders=bench.take_turns(entries),
        targets=(Target(FIRST, "Trainer", 0.55), Target(FIRST, "TRL", 0.4)),
    )


def answering_measured(bench: Bench) -> Measurement:
    """How soon a person is answered."""
    folder = bench.folder / "answering"
    folder.mkdir()
    shutil.copy(HERE.parent / "tests" / "data" / "tiny.txt", folder)
    warm = folder / "cache"
    run([HEADWAY, "plan", "tiny.txt"], folder, warm)

    def entry(name: str, how: str, timed: Callable[[Path], float]) -> Entry:
        return Entry(name, how, lambda trial: {"seconds": timed(trial)})

    entries = [
        entry(
            "headway --help",
            "from start to end",
            lambda _: seconds(["--help"], folder, warm),
        ),
        entry(
            "headway plan",
            "`headway plan tiny.txt`, planned once before, from start to end",
            lambda _: seconds(["plan", "tiny.txt"], folder, warm),
        ),
        entry(
            "headway train",
            "`headway train tiny.txt` on a terminal, to the end of its first line",
            lambda trial: first_line_s(
                ["train", "tiny.txt", "--output-dir", str(trial)], folder, warm
            ),
        ),
    ]
    num = 2 if bench.quick else ANSWERS
    return Measurement(
        title="Answering",
        what=f"Seconds on the wall, {num} trials each.",
        notes=(),
        contenders=bench.take_turns(entries, num),
        compared=False,
    )
