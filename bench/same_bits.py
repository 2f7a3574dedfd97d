"""Two revisions side by side: the same weights bit for bit, and answers as fast.

    python bench/same_bits.py OLD             OLD is any revision; the new side is the working tree
    python bench/same_bits.py OLD --quick     fewer steps, no demo; for use while working
    python bench/same_bits.py OLD --write     also to results/
    python bench/same_bits.py OLD --except stream   without a job that differs on purpose

Every job runs in both trees in a fresh process, with a folder and a cache of its own. Compared are
the hashes of the last checkpoint's weights and moments, exit codes, and what the receipts count.
How soon `--help`, `plan` and the first line of `train` answer is measured alternating old and new.
"""

import argparse
import hashlib
import json
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from inputs import chats, copy_sources
from report import machine, versions
from trials import HERE, environment

ROOT = HERE.parent
ROUNDS = 9
_LIMIT_S = 1800
_EXACT = ("--no-bf16", "--no-torch-compile", "--threads", "1")
# What a receipt counts, apart from the time it took.
_COUNTED = ("outcome", "plan", "rows", "steps", "tokens")
_LEARNED = ("train_probe", "held_out", "loss_first", "loss_last", "grad_norm_first")


@dataclass(frozen=True)
class Tree:
    """One revision, ready to run."""

    name: str
    source: Path  # its src folder

    def environment(self, cache: Path) -> dict[str, str]:
        """The environment that a command of this revision is started with."""
        return environment(cache) | {"PYTHONPATH": str(self.source)}


@dataclass(frozen=True)
class Job:
    """A training run that both revisions do.

    Attributes:
        name: of the run.
        words: what is typed after `headway`.
        stop_after: it is stopped by SIGTERM after this step and started again; 0: never.
    """

    name: str
    words: tuple[str, ...]
    stop_after: int = 0


@dataclass(frozen=True)
class Result:
    """What one revision made of a job."""

    exit_codes: tuple[int, ...]
    hashes: dict[str, str]  # sha256 of each safetensors file of the last checkpoint
    counted: dict[str, Any]  # from the receipt


def main() -> int:
    """Compare, print, write; 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("old", help="a revision")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true", help="to results/")
    parser.add_argument("--except", dest="without", action="append", default=[], metavar="JOB")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        trees = [Tree("old", checkout(asked.old, here / "tree")), Tree("new", ROOT / "src")]
        make_data(here / "data")
        base = make_base(trees[0], here)
        chosen = [job for job in all_jobs(base, asked.quick) if job.name not in asked.without]
        jobs = {job.name: compare(job, trees, here) for job in chosen}
        times = {} if asked.quick else compare_answers(trees, here)
    page = {"old": asked.old, "without": asked.without, "jobs": jobs, "answers_s": times}
    page |= {"machine": machine(), "versions": versions()}
    if asked.write:
        file = HERE / "results" / f"{date.today().isoformat()}-same-bits.json"
        file.write_text(json.dumps(page, indent=1) + "\n")
    same = all(job["same"] for job in jobs.values())
    print("every job ends with the same bits" if same else "NOT the same")
    return 0 if same else 1


def checkout(revision: str, folder: Path) -> Path:
    """The sources of a revision, in a folder of their own."""
    folder.mkdir()
    archive = subprocess.run(
        ["git", "archive", revision, "src"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder / "src"


def make_data(folder: Path) -> None:
    """A text, and conversations that share a system prompt."""
    folder.mkdir()
    copy_sources(folder / "text", 1_500_000)
    (folder / "chats.jsonl").write_text(chats(400))
    (folder / "prompted.jsonl").write_text(chats(200, system_prompt=True))


def make_base(old: Tree, here: Path) -> Path:
    """A folder as another trainer leaves it: weights to fine-tune, made by the old revision."""
    work = here / "base-run"
    work.mkdir()
    data = str(here / "data" / "text")
    words = ("train", data, "--preset", "tiny", "--max-steps", "4", "--run-name", "base", *_EXACT)
    code = run(old, words, work)
    if code:
        raise SystemExit(f"the base model was not made: exit code {code}")
    base = here / "base"
    shutil.copytree((work / "runs" / "base" / "model").resolve(), base)
    for name in ("headway.json", "optimizer.safetensors", "manifest.json", "trainer_state.json"):
        (base / name).unlink()
    return base


def all_jobs(base: Path, quick: bool) -> list[Job]:
    """The demo, a chat, a LoRA, a text, a stream and a resumed run."""
    data = base.parent / "data"
    text, plain, prompted = (str(data / name) for name in ("text", "chats.jsonl", "prompted.jsonl"))
    steps = "6" if quick else "24"
    small = ("--preset", "tiny", "--max-steps", steps)
    lora = ("--model", str(base), "--lora", "--lora-dropout", "0.1", "--max-steps", steps)
    resumed = ("--preset", "mini", "--max-steps", "24", "--val-size", "8", "--save-steps", "5")
    jobs = [
        Job("text", ("train", text, *small, "--val-size", "8", *_EXACT)),
        Job("text-bf16", ("train", text, *small, "--bf16", "--no-torch-compile")),
        Job("chats", ("train", plain, *small, "--val-size", "8", *_EXACT)),
        Job("prompted", ("train", prompted, *small, *_EXACT)),
        Job("lora", ("train", plain, *lora, *_EXACT)),
        Job("stream", ("train", text, *small, "--survey-exact", "1000", *_EXACT)),
        Job("resumed", ("train", text, *resumed, *_EXACT), stop_after=7),
    ]
    return jobs if quick else [*jobs, Job("demo", ("demo", *_EXACT))]


def compare(job: Job, trees: Sequence[Tree], here: Path) -> dict[str, Any]:
    """Do a job in both trees; what each made of it, and whether that is the same."""
    old, new = (do(job, tree, here) for tree in trees)
    same = old == new
    print(f"{job.name:10} {'same' if same else 'DIFFERS'}", flush=True)
    if not same:
        print(json.dumps([asdict(old), asdict(new)], indent=1))
    return {"same": same, "old": asdict(old), "new": asdict(new)}


def do(job: Job, tree: Tree, here: Path) -> Result:
    """One job in one tree, to its end."""
    work = here / f"{job.name}-{tree.name}"
    work.mkdir()
    words = (*job.words, "--run-name", job.name)
    codes = [run(tree, words, work, stop_after=job.stop_after)]
    if job.stop_after:
        codes.append(run(tree, words, work))
    folder = work / "runs" / job.name
    receipt = json.loads((folder / "receipt.json").read_text())
    counted = {name: receipt[name] for name in _COUNTED}
    counted |= {name: receipt["learning_facts"][name] for name in _LEARNED}
    hashes = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted((folder / "model").resolve().glob("*.safetensors"))
    }
    return Result(tuple(codes), hashes, counted)


def run(tree: Tree, words: Sequence[str], work: Path, *, stop_after: int = 0) -> int:
    """Type a command; its exit code. It is stopped after a step where that is asked for."""
    with (work / "output").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "headway.cli", *words],
            cwd=work,
            env=tree.environment(work / "cache"),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            if stop_after:
                _await_step(work, stop_after, process)
                process.send_signal(signal.SIGTERM)
            return process.wait(_LIMIT_S)
        finally:
            process.kill()
            process.wait()


def _await_step(work: Path, step: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until a step is in the log."""
    while process.poll() is None:
        for log in work.glob("runs/*/events.jsonl"):
            for line in log.read_text().splitlines():
                if f'"event":"step_done","step":{step},' in line:
                    return
        time.sleep(0.01)
    raise SystemExit(f"it ended before step {step}: {(work / 'output').read_text()[-2000:]}")


# -- how soon --------------------------------------------------------------------------------


def compare_answers(trees: Sequence[Tree], here: Path) -> dict[str, Any]:
    """Seconds to an answer, alternating old and new: median, least, most, and the ratio."""
    small = here / "data" / "small.txt"
    small.write_text("".join(chats(20)))
    asked: dict[str, Callable[[Tree], float]] = {
        "headway --help": lambda tree: _whole_s(tree, ("--help",), here),
        "headway plan": lambda tree: _whole_s(tree, ("plan", str(small), "--preset", "tiny"), here),
        "first line of headway train": lambda tree: _first_line_s(tree, str(small), here),
    }
    found: dict[str, Any] = {}
    for name, ask in asked.items():
        seconds: dict[str, list[float]] = {tree.name: [] for tree in trees}
        for tree in trees:
            ask(tree)  # caches and compiled files are there for both
        for _ in range(ROUNDS):
            for tree in trees:
                seconds[tree.name].append(ask(tree))
        medians = {side: statistics.median(values) for side, values in seconds.items()}
        found[name] = {
            side: {"median": medians[side], "least": min(values), "most": max(values)}
            for side, values in seconds.items()
        } | {"ratio": medians["new"] / medians["old"]}
        print(f"{name:28} {medians['old']:.3f} -> {medians['new']:.3f} s", flush=True)
    return found


def _whole_s(tree: Tree, words: Sequence[str], here: Path) -> float:
    began_s = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "headway.cli", *words],
        cwd=here,
        env=tree.environment(here / f"cache-{tree.name}"),
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began_s


def _first_line_s(tree: Tree, data: str, here: Path) -> float:
    began_s = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "headway.cli", "train", data, "--preset", "tiny"],
        cwd=here,
        env=tree.environment(here / f"cache-{tree.name}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        return time.perf_counter() - began_s
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    sys.exit(main())
