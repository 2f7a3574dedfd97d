"""Headway beside what a person would otherwise use, in one run, turn by turn: `make bench`."""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from inputs import chats, copy_sources
from report import Contender, Figures, Measurement, as_json, as_page, machine, versions
from trials import (
    HEADWAY,
    HERE,
    THREADS,
    Steps,
    first_line_s,
    headway,
    last_loss,
    rate,
    run,
    seconds,
    trainer,
)

NUM_CHATS = 2_000
TEXT_BYTES = 1_000_000
ANSWERING_TRIALS = 10
SAME = ("--preset", "mini", "--threads", str(THREADS), "--device", "cpu")
CHATS = (*SAME, "--max-length", "1024", "--batch-size", "8")
TEXT = (*SAME, "--max-length", "256", "--batch-size", "4")
CONDITIONS = (
    f"Every trial is a process of its own with {THREADS} threads on the CPU, float32, and a cache "
    "of its own that is empty. Contenders take turns: A B C A B C.",
    "Model, tokenizer, batch, optimizer, learning rate and its schedule are those of Headway's "
    "plan, for all contenders.",
    "Tokens per second are taken from the end of step 1 to the end of the last step by the clock "
    "on the wall: making batches and keeping books count, starting up does not.",
    "The first step is timed from the start of the process to the end of the step: imports, "
    "tokenising, the model, and Headway's plan and probes.",
    "Nothing is saved between steps on either side. After its last step Headway probes, saves and "
    "reads back; Trainer does none of it, and that time is in no figure.",
    "Trainer is set as fast as it goes by settings alone: fused AdamW, SDPA, no logging, no "
    "reports, no progress bar, batches made in its own process; torch.compile on neither side.",
)

Trial = Callable[[Path], Figures]


@dataclass(frozen=True)
class Bench:
    """How much of it to do, and where."""

    folder: Path
    trials: int
    quick: bool

    def steps(self, num: int) -> int:
        """So many steps, or few."""
        return min(num, 4) if self.quick else num

    def rounds(self, trials: Mapping[str, Trial], num: int) -> dict[str, tuple[Figures, ...]]:
        """Every contender once per round, each time in an empty folder; by name."""
        seen: dict[str, list[Figures]] = {name: [] for name in trials}
        for number in range(1, num + 1):
            for name, trial in trials.items():
                print(f"  {number}/{num} {name}", file=sys.stderr, flush=True)
                with tempfile.TemporaryDirectory(dir=self.folder) as folder:
                    seen[name].append(trial(Path(folder)))
        return {name: tuple(figures) for name, figures in seen.items()}

    def plan(self, name: str, words: tuple[str, ...]) -> dict[str, Any]:
        """Plan once to get a tokenizer, and once with it; keep both for all contenders."""
        cache = self.folder / "cache"
        command = [HEADWAY, "plan", *words, "--json"]
        store = Path(json.loads(run(command, self.folder, cache))["data"]["store"])
        tokenizer = self.folder / f"{name}-tokenizer"
        tokenizer.mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (store / file).exists():
                shutil.copy(store / file, tokenizer)
        told = run([*command, "--tokenizer", tokenizer.name], self.folder, cache)
        (self.folder / f"{name}-plan.json").write_text(told)
        return json.loads(told)


def chats_measured(bench: Bench) -> Measurement:
    """Short conversations, long context."""
    few, num = bench.steps(5), bench.steps(120)
    (bench.folder / "chats.jsonl").write_text(chats(NUM_CHATS))
    words = ("chats.jsonl", *CHATS, "--max-steps", str(num), "--save-steps", str(num))
    plan = bench.plan("chats", words)
    lengths = plan["data"]["lengths"]
    words = (*words, "--tokenizer", "chats-tokenizer")

    def figures(told: tuple[float, Steps]) -> Figures:
        started, steps = told
        first_s = steps.ends[0] - started
        return {"answer tokens/s": rate(steps, steps.answers), "first step, s": first_s}

    def by_trainer(padding: str, num: int) -> Trial:
        files = ("chats-plan.json", "chats-tokenizer", "chats.jsonl")
        options = ("--padding", padding, "--steps", str(num))
        return lambda trial: figures(
            trainer("trainer_chats.py", (*files, *options), bench.folder, trial)
        )

    hows = {
        "Trainer, max_length": f'DataCollatorForSeq2Seq(padding="max_length"), {few} steps',
        "Trainer, longest": f"DataCollatorForSeq2Seq(padding=True), {num} steps",
        "Trainer, flat": f"DataCollatorWithFlattening(), {num} steps",
        "Headway": f"`headway train {shlex.join(words)}`",
    }
    seen = bench.rounds(
        {
            "Trainer, max_length": by_trainer("max_length", few),
            "Trainer, longest": by_trainer("longest", num),
            "Trainer, flat": by_trainer("flat", num),
            "Headway": lambda trial: figures(headway(words, bench.folder, trial)),
        },
        bench.trials,
    )
    return Measurement(
        title="Short chats, long context",
        what=f"{NUM_CHATS:,} chats of {lengths['mean']:.0f} tokens on average and {lengths['max']} "
        "at most, of which the answers are trained, at max_length 1,024, 8 chats a step, "
        f"{plan['model']['parameters']:,} weights.",
        notes=(
            f"Padded to max_length a step takes many times as long: {few} steps are enough to "
            "tell its rate.",
            "No contender computes the line break behind the last answer.",
        ),
        contenders=tuple(Contender(name, hows[name], seen[name]) for name in hows),
    )


def text_measured(bench: Bench) -> Measurement:
    """Rows that are full: nothing to win by leaving padding out."""
    num = bench.steps(60)
    num_bytes = copy_sources(bench.folder / "text", TEXT_BYTES)
    words = ("text/*.py", *TEXT, "--max-steps", str(num), "--save-steps", str(num))
    plan = bench.plan("text", words)
    words = (*words, "--tokenizer", "text-tokenizer")
    files = ("text-plan.json", "text-tokenizer", "text", "--steps", str(num))

    def figures(told: tuple[float, Steps]) -> Figures:
        started, steps = told
        return {
            "tokens/s": rate(steps, steps.positions),
            "first step, s": steps.ends[0] - started,
            "loss of step 1": steps.losses[0],
            "loss of the last 10": last_loss(steps),
        }

    hows = {
        "Trainer": "blocks of 256 tokens, cut beforehand",
        "Headway": f"`headway train {shlex.join(words)}`",
    }
    seen = bench.rounds(
        {
            "Trainer": lambda trial: figures(
                trainer("trainer_text.py", files, bench.folder, trial)
            ),
            "Headway": lambda trial: figures(headway(words, bench.folder, trial)),
        },
        bench.trials,
    )
    return Measurement(
        title="Text",
        what=f"{num_bytes / 1e6:.1f} MB of Python's standard library, {num} steps of 4 rows of "
        f"256 tokens, {plan['model']['parameters']:,} weights.",
        notes=(
            "Losses show that it is the same work; they differ, as order and first weights do. "
            "A block has 255 targets, a row of Headway 256, and its documents do not see each "
            "other.",
        ),
        contenders=tuple(Contender(name, hows[name], seen[name]) for name in hows),
    )


def answering_measured(bench: Bench) -> Measurement:
    """How soon a person is answered."""
    shutil.copy(HERE.parent / "tests" / "data" / "tiny.txt", bench.folder)
    cache = bench.folder / "warm"
    run([HEADWAY, "plan", "tiny.txt"], bench.folder, cache)
    trials = {
        "headway --help": lambda _: seconds(["--help"], bench.folder, cache),
        "headway plan": lambda _: seconds(["plan", "tiny.txt"], bench.folder, cache),
        "headway train": lambda trial: first_line_s(
            ["train", "tiny.txt", "--output-dir", str(trial)], bench.folder, cache
        ),
    }
    hows = {
        "headway --help": "from start to end",
        "headway plan": "`headway plan tiny.txt`, planned once before, from start to end",
        "headway train": "`headway train tiny.txt` on a terminal, to the end of its first line",
    }
    num = 2 if bench.quick else ANSWERING_TRIALS
    seen = bench.rounds({n: _in_seconds(trial) for n, trial in trials.items()}, num)
    return Measurement(
        title="Answering",
        what=f"Seconds on the wall, {num} trials each.",
        notes=(),
        contenders=tuple(Contender(name, hows[name], seen[name]) for name in hows),
        compared=False,
    )


def _in_seconds(trial: Callable[[Path], float]) -> Trial:
    return lambda folder: {"seconds": trial(folder)}


MEASUREMENTS = {"chats": chats_measured, "text": text_measured, "answering": answering_measured}


def main() -> None:
    """Measure everything; write it down unless it was only a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=3, help="of each contender [3]")
    parser.add_argument("--only", choices=[*MEASUREMENTS], help="one of them alone")
    parser.add_argument("--quick", action="store_true", help="few steps; prints, writes nothing")
    asked = parser.parse_args()
    began_s = time.monotonic()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), asked.trials, asked.quick)
        # Read every file once: no contender is the one that waits for the disk.
        imports = "import accelerate, peft, timed_trainer, headway.trainer.worker"
        run([sys.executable, "-c", f"import sys; sys.path.append({str(HERE)!r}); {imports}"],
            bench.folder, bench.folder / "cache")  # fmt: skip
        wanted = [asked.only] if asked.only else [*MEASUREMENTS]
        measured = [MEASUREMENTS[name](bench) for name in wanted]
    head = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "conditions": [
            *CONDITIONS,
            f"{asked.trials} trials each, {time.monotonic() - began_s:.0f} s in all; "
            f"the machine's load before it was {load:.1f}.",
        ],
    }
    page = as_page(measured, head)
    print(page)
    if not asked.quick:
        path = HERE / "results" / "-".join(filter(None, (head["date"], "first-run", asked.only)))
        path.parent.mkdir(exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(as_json(measured, head), indent=2) + "\n")
        path.with_suffix(".md").write_text(page)


if __name__ == "__main__":
    main()
