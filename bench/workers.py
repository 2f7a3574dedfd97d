"""Several workers beside one, and beside DistributedDataParallel; a corpus; a lost worker.

python bench/workers.py                  results/DATE-workers.json and .md
python bench/workers.py --only scaling   one part, to a file of its own
python bench/workers.py --rounds 1       fewer rounds
python bench/workers.py --minutes 20     no second or later round begins after 20 minutes
python bench/workers.py --quick          few steps; prints, writes nothing
"""

import argparse
import hashlib
import json
import math
import os
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from chats import WARM_UP
from contenders import Bench, Entry, Trial, Work
from inputs import copy_sources, write_corpus
from recovery import KILLED_AFTER, NEXT_START, recovery
from report import Contender, Figures, Measurement, Target, as_json, as_page, machine, versions
from trials import (
    HEADWAY,
    HERE,
    NUMBER_FORMAT,
    PEERS,
    WARM_STEPS,
    CpuWatch,
    Steps,
    TrialError,
    headway,
    peer,
    rate,
    run,
)

from headway.base.machine import this_machine
from headway.config import settings
from headway.supervise import allocator

CORES = this_machine().cores
LENGTH = 256
RATE, CPU = "tokens/s", "core seconds a step"
UTILIZATION = {  # of a receipt's workers
    "computing": "utilization",
    "data": "share waiting for data",
    "peers": "share waiting for peers",
    "saving": "share saving",
}
REDUCTIONS = ("fast", "hsdp")  # beside the tree, where this version has them
ONE, DDP = "1 process", "DDP"
SCALING_PRESET, SCALING_BATCH, SCALING_STEPS = "small", 16, 6
CORPUS_BYTES, CORPUS_BATCH, CORPUS_STEPS = 73_000_000, 32, 20
TRIAL_LIMIT_S = 900
SAME = (NUMBER_FORMAT, "--no-torch-compile")
CONDITIONS = (
    f"Every trial starts processes of its own on the CPU; one that takes longer than "
    f"{TRIAL_LIMIT_S} s is ended. Contenders take turns: A B C A B C.",
    "Shape, batch, number format, AdamW, learning rate and schedule are those of Headway's plan "
    "for all. Nobody compiles. All have Headway's allocator.",
    f"Tokens per second are taken from the end of step {WARM_STEPS} to the end of the last step by "
    "the clock on the wall. Core seconds are of all processes of the trial in the same time, "
    "looked at five times a second. Beside other work, more processes get a larger share of the "
    "machine, as `cores at work` shows: then core seconds say more than the clock.",
    "A ratio is Headway's figure over the other's, of the medians; the least and the most of the "
    "rounds stand beside it.",
)


def reductions(table: Sequence[Any] | None = None) -> tuple[str, ...]:
    """What `--reduction` may be in this version; nothing where there is no such setting."""
    for row in settings.table() if table is None else table:
        if row.name == "reduction":
            return tuple(row.metadata["choices"])
    return ()


def reduction_words(kind: str, known: Sequence[str]) -> list[str]:
    """What is typed to have a reduction.

    Raises:
        TrialError: this version has none of that name.
    """
    if kind in known:
        return ["--reduction", kind]
    if kind == "tree":
        return []  # the only one
    raise TrialError(f"there is no --reduction {kind} in this version")


@dataclass(frozen=True)
class Layout:
    """Workers, their threads, and how their gradients are added."""

    workers: int
    threads: int
    reduction: str = "tree"

    @property
    def words(self) -> list[str]:
        """What is typed for it.

        Raises:
            TrialError: this version does not have it.
        """
        told = ["--threads", str(self.threads)]
        if self.workers == 1:
            return told
        return [*told, "--nproc", str(self.workers), *reduction_words(self.reduction, reductions())]

    @property
    def said(self) -> str:
        """For people."""
        return f"{self.workers} x {self.threads} thread{'s' * (self.threads > 1)}"


def figures(steps: Steps, watch: CpuWatch) -> Figures:
    """What is compared of a trial."""
    begin, end = steps.ends[WARM_STEPS - 1], steps.ends[-1]
    num = len(steps.ends) - WARM_STEPS
    core_s = watch.used_s(begin, end)
    return {
        RATE: rate(steps, steps.positions),
        "seconds a step": (end - begin) / num,
        CPU: core_s / num,
        "cores at work": core_s / (end - begin),
        f"loss of step {WARM_STEPS + 1}": steps.losses[WARM_STEPS],
        "loss of the last step": steps.losses[-1],
    }


# -- strong scaling


def scaling_measured(bench: Bench) -> Measurement:
    """The same step by one process, and by a worker for each core, in several ways."""
    work, words = _scaling_work(bench)
    many = Layout(CORES, 1)

    def ours(layout: Layout) -> Trial:
        def trial(place: Path) -> Figures:
            watch = CpuWatch()
            typed = [*words, *layout.words]
            _, steps = headway(typed, work.folder, place, limit_s=TRIAL_LIMIT_S, watch=watch)
            return figures(steps, watch)

        return trial

    alone = Layout(1, CORES)
    entries = [
        Entry(ONE, f"`headway train`, {alone.said}", ours(alone)),
        Entry(DDP, f"`torchrun peers/ddp.py`, {many.said}", _ddp(bench, work)),
        *(
            Entry(kind, f"--reduction {kind}, {many.said}", ours(Layout(CORES, 1, kind)))
            for kind in REDUCTIONS
        ),
        Entry("Headway", f"`headway train {shlex.join(words)}`, {many.said}, tree", ours(many)),
    ]
    return Measurement(
        title=f"Strong scaling on {CORES} cores, {work.plan['model']['parameters'] / 1e6:.0f}M",
        what=f"Python's standard library in rows of {LENGTH} tokens, {SCALING_BATCH} rows a step, "
        f"{work.plan['steps']['leaves']} leaves, {work.plan['machine']['compute_dtype']}, "
        f"{bench.steps(SCALING_STEPS)} steps.",
        notes=("DDP: transformers' model under autocast, fused AdamW, gloo.",),
        contenders=bench.take_turns(entries),
        targets=tuple(Target(RATE, name, 1) for name in (ONE, DDP, *REDUCTIONS)),
    )


def _scaling_work(bench: Bench) -> tuple[Work, list[str]]:
    """Data and plan, and what is typed after `headway train`, the layout left out."""
    folder = bench.folder / "scaling"
    folder.mkdir()
    copy_sources(folder / "text", 2_000_000)
    words = ["--preset", SCALING_PRESET, "--device", "cpu", *WARM_UP, *SAME]
    words += ["--max-length", str(LENGTH), "--batch-size", str(SCALING_BATCH)]
    work = bench.work("scaling", "text", "text", [*words, "--threads", "1"])
    num = str(bench.steps(SCALING_STEPS))
    told = ["text", *words, "--max-steps", num, "--save-steps", num, "--tokenizer", "tokenizer"]
    return work, told


def _ddp(bench: Bench, work: Work) -> Trial:
    """transformers' model, a process for each core."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(CORES)]
    words = ["--steps", str(bench.steps(SCALING_STEPS)), "--batch", str(SCALING_BATCH)]
    if work.plan["machine"]["compute_dtype"] == "bfloat16":
        words.append("--bf16")
    more = allocator.environment() | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}

    def trial(place: Path) -> Figures:
        watch = CpuWatch()
        _, steps = peer(
            "ddp.py",
            words,
            work.folder,
            place,
            more=more,
            launcher=launcher,
            limit_s=TRIAL_LIMIT_S,
            watch=watch,
        )
        return figures(steps, watch)

    return trial


# -- a corpus


def corpus_measured(bench: Bench) -> Measurement:
    """73 MB of sources, planned once, and trained for some steps by 1, 2 and 4 workers."""
    folder = bench.folder / "corpus"
    folder.mkdir()
    written = write_corpus(folder / "data", CORPUS_BYTES // (20 if bench.quick else 1))
    num = bench.steps(CORPUS_STEPS)
    words = ["data", "--preset", "mini", "--device", "cpu", *WARM_UP, *SAME]
    words += ["--max-length", str(LENGTH), "--batch-size", str(CORPUS_BATCH)]
    words += ["--max-steps", str(num), "--save-steps", str(num), "--survey-exact", "100MB"]
    cache = folder / "cache"
    began_s = time.monotonic()
    plan = json.loads(
        run([HEADWAY, "plan", *words, "--json"], folder, cache, limit_s=TRIAL_LIMIT_S)
    )
    planned_s = time.monotonic() - began_s
    hashes: dict[str, set[str]] = {}

    def ours(layout: Layout) -> Trial:
        def trial(place: Path) -> Figures:
            watch = CpuWatch()
            _, steps = headway(
                [*words, *layout.words],
                folder,
                place,
                limit_s=TRIAL_LIMIT_S,
                cache=cache,
                watch=watch,
            )
            weights = (place / "bench" / "model" / "model.safetensors").read_bytes()
            hashes.setdefault(layout.said, set()).add(hashlib.sha256(weights).hexdigest())
            return figures(steps, watch) | utilization(place / "bench" / "receipt.json")

        return trial

    layouts = [Layout(1, 1), Layout(4, 1), Layout(2, 1)]
    seen = bench.take_turns([Entry(one.said, "workers x threads", ours(one)) for one in layouts])
    rows, data = plan["data"]["rows"], plan["data"]
    return Measurement(
        title=f"A corpus of {written.bytes / 1e6:.0f} MB",
        what=f"{written.files:,} Python sources of the standard library, then of the installed "
        f"packages, by name, cut to size: {written.words / 1e6:.1f} million words, "
        f"{data['tokens'] / 1e6:.1f} million tokens, sha256 {written.sha256[:12]}. Planned in "
        f"{planned_s:.0f} s, all of it read, counted and tokenized: {rows['accepted']:,} rows of "
        f"{LENGTH} tokens. Then {num} steps of {CORPUS_BATCH} rows by {plan['model']['name']} with "
        f"{plan['model']['parameters'] / 1e6:.1f}M weights, "
        f"{plan['machine']['compute_dtype']}, {plan['steps']['leaves']} leaves.",
        notes=(
            *speed_ups(seen, layouts[0].said),
            f"Weights after the last step: {bits(hashes, [one.said for one in layouts])}.",
            "Utilization: share of its time from the first step on that a worker computes, the "
            "mean of all workers, by the receipt.",
        ),
        contenders=seen,
    )


def utilization(receipt: Path) -> Figures:
    """Shares of the workers' time from the first step on; nothing for a worker that is alone."""
    workers = json.loads(receipt.read_text()).get("workers") or []
    shares = {
        said: [one[name] for one in workers if name in one] for name, said in UTILIZATION.items()
    }
    return {said: statistics.mean(found) for said, found in shares.items() if found}


def speed_ups(seen: Sequence[Contender], alone: str) -> list[str]:
    """How many times as fast each is as one worker with one thread, of the medians."""
    rates = {one.name: statistics.median(one.values(RATE)) for one in seen if one.values(RATE)}
    if alone not in rates:
        return [f"No speed-up: {alone} was not measured."]
    times = [f"{name} {fast / rates[alone]:.2f}" for name, fast in rates.items() if name != alone]
    return [f"Speed-up over {alone}: {', '.join(times)}."]


def bits(hashes: dict[str, set[str]], names: Sequence[str]) -> str:
    """Whether layouts with as many threads ended with the same weights, in every round."""
    found = set().union(*(hashes.get(name, set()) for name in names))
    missing = [name for name in names if name not in hashes]
    if missing:
        return f"not compared, {', '.join(missing)} ended with none"
    if len(found) == 1:
        return f"the same bits for {', '.join(names)}, sha256 {min(found)[:12]}"
    return f"NOT the same bits for {', '.join(names)}: {len(found)} different ones"


# -- a lost worker


def recovery_measured(bench: Bench) -> Measurement:
    """A worker is killed; how soon the run has a step more."""
    folder = bench.folder / "recovery"
    folder.mkdir()
    copy_sources(folder / "text", 1_000_000)
    words = ["text", "--preset", "mini", "--device", "cpu", *SAME, "--threads", "1"]
    words += ["--max-length", str(LENGTH), "--batch-size", "16", "--max-steps", "200"]
    words += ["--nproc", str(CORES)]

    def trial(place: Path) -> Figures:
        return recovery(words, folder, place, rank=1)

    (seen,) = bench.take_turns([Entry("Headway", f"`headway train {shlex.join(words)}`", trial)])
    return Measurement(
        title="From SIGKILL of a worker to the next finished step",
        what=f"Worker 1 of {CORES} is killed after step {KILLED_AFTER}. Where the run does not go "
        "on by itself, the same command is started at once.",
        notes=(
            f"`{NEXT_START}`: to the first line that the log has of the next attempt. The next "
            "step is the first one that was not finished before.",
        ),
        contenders=(seen,),
        compared=False,
    )


WORKS: dict[str, Callable[[Bench], Measurement]] = {
    "scaling": scaling_measured,
    "corpus": corpus_measured,
    "recovery": recovery_measured,
}


def main() -> None:
    """Measure everything; write it down unless it was only a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of each part [3]")
    parser.add_argument("--minutes", type=float, help="after that, no second round begins")
    parser.add_argument("--only", choices=[*WORKS], help="one part alone, to a file of its own")
    parser.add_argument("--quick", action="store_true", help="prints, writes nothing")
    asked = parser.parse_args()
    began_s, load = time.monotonic(), os.getloadavg()[0]
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name:
        end_s = began_s + 60 * asked.minutes if asked.minutes else math.inf
        bench = Bench(Path(name), 1 if asked.quick else asked.rounds, asked.quick, end_s)
        imports = "import torch.distributed.run, timed_trainer, headway.training.worker"
        code = f"import sys; sys.path.append({str(PEERS)!r}); {imports}"
        run([sys.executable, "-c", code], bench.folder, bench.folder / "cache")
        for work in [asked.only] if asked.only else [*WORKS]:
            print(work, file=sys.stderr, flush=True)
            measured.append(WORKS[work](bench))
            head: dict[str, Any] = {
                "date": date.today().isoformat(),
                "machine": machine(),
                "versions": versions(),
                "conditions": [
                    *CONDITIONS,
                    f"Rounds: {rounds(measured)}, in {time.monotonic() - began_s:.0f} s; the "
                    f"machine's load was {load:.1f} before and {os.getloadavg()[0]:.1f} after, "
                    "with this measurement's own processes among it.",
                ],
            }
            if not asked.quick:
                _write(measured, head, asked.only)
    print(as_page(measured, head))
    broken = [one.title for one in measured if one.contenders[-1].absent]
    if broken:
        sys.exit(f"Headway failed: {', '.join(broken)}")


def rounds(measured: Sequence[Measurement]) -> str:
    """How many there were, of each part."""
    nums = [max(len(one.trials) for one in part.contenders) for part in measured]
    return ", ".join(map(str, nums))


def _write(measured: list[Measurement], head: dict[str, Any], only: str | None) -> None:
    path = HERE / "results" / "-".join(filter(None, (head["date"], "workers", only)))
    path.with_suffix(".json").write_text(json.dumps(as_json(measured, head), indent=2) + "\n")
    path.with_suffix(".md").write_text(as_page(measured, head))


if __name__ == "__main__":
    main()
