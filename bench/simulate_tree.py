"""Steps and lost time of 8 to 16,384 workers, simulated from what a few workers measure here.

    python bench/simulate_tree.py              results/DATE-simulate-tree.json and .md
    python bench/simulate_tree.py --rounds 1   fewer rounds
    python bench/simulate_tree.py --quick      little of everything; prints, writes nothing

Three parts, which the results keep apart. Measured: what a message, a report and a sum in shared
memory cost between processes of this machine. Checked: what the simulation predicts of 2 to 8
workers, beside what Headway's workers then do. Simulated: everything larger, which nobody ran.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from inputs import copy_sources
from report import machine, versions
from tree import failures, page
from tree.calibration import a_report, calibrate
from tree.costs import Costs, Link
from tree.steps import (
    LAYOUTS,
    PER_MACHINE,
    Cluster,
    MachineStep,
    shared_memory_link,
    step_time,
)
from tree.team_runs import measure, root_report_s
from trials import HERE, NUMBER_FORMAT, WARM_STEPS, CpuWatch, TrialError, headway

from headway.model import presets
from headway.runs.workers import WorkerTree
from headway.supervise import allocator

LEAVES = 8
TREES = tuple(
    WorkerTree(*one)
    for one in ((2, 1), (3, 1), (4, 1), (4, 2), (6, 1), (6, 3), (8, 1), (8, 2), (8, 4))
)
LARGE_TREES = (WorkerTree(2), WorkerTree(4, 2), WorkerTree(8, 2))  # with much to add
WHOLE = (WorkerTree(2), WorkerTree(4, 2), WorkerTree(8, 2))
SIZES = (8, 64, 512, 4_096, 16_384)
STALLS_S = (5.0, 60.0)
RESTART_S = 600.0  # to find a failure, replace a machine, start and load; assumed
_FLOAT_BYTES = 4
_BILLION = 1e9


@dataclass(frozen=True)
class Model:
    """A model whose gradients are added."""

    preset: str
    shapes: tuple[torch.Size, ...]

    @property
    def num_bytes(self) -> int:
        """Of its gradients."""
        return _FLOAT_BYTES * sum(shape.numel() for shape in self.shapes)

    @property
    def signals(self) -> "Model":
        """As many parameters, of one number each: what is left is the exchange."""
        return Model("reports alone", tuple(torch.Size((1,)) for _ in self.shapes))


def model(preset: str) -> Model:
    """The shapes of a preset's parameters."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = presets.config(preset, presets.vocab_size(preset), 256, {})
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    return Model(preset, tuple(one.shape for one in made.parameters()))


# -- measured and checked


@dataclass(frozen=True)
class Compared:
    """What was predicted of some workers, beside what was measured.

    Attributes:
        what: was done.
        workers: that did it.
        groups: of them.
        predicted_s: of a step.
        measured_s: by the clock, the median of the steps.
        least_s: the least of them.
        predicted_core_s: of all workers together.
        measured_core_s: the same, measured.
    """

    what: str
    workers: int
    groups: int
    predicted_s: float
    measured_s: float
    least_s: float
    predicted_core_s: float
    measured_core_s: float


def with_handling(costs: Costs, signals: Model, steps: int) -> Costs:
    """Costs with what a worker does beside messages and sums, from two workers."""
    tree, report = WorkerTree(2), a_report(len(signals.shapes))
    costs = replace(costs, root_report_s=root_report_s(report))
    told = measure(tree, LEAVES, signals.shapes, steps)
    known_s = MachineStep(tree, LEAVES, signals.num_bytes).core_seconds(costs)
    return replace(costs, worker_s=max(0.0, told.core_seconds - known_s) / tree.workers)


def check(
    found: Model, costs: Costs, steps: int, trees: Sequence[WorkerTree]
) -> Iterator[Compared]:
    """Steps without computing: reports and sums of Headway's own workers."""
    for tree in trees:
        step = MachineStep(tree, LEAVES, found.num_bytes)
        told = measure(tree, LEAVES, found.shapes, steps)
        one = Compared(
            found.preset,
            tree.workers,
            tree.groups,
            max(step.marks(costs).values()),
            told.seconds,
            told.least,
            step.core_seconds(costs),
            told.core_seconds,
        )
        print(f"  {one}", file=sys.stderr, flush=True)
        yield one


def check_whole(costs: Costs, num_bytes: int, folder: Path, quick: bool) -> Iterator[Compared]:
    """Steps of `headway train`: one worker tells what a leaf takes, the others are predicted."""
    copy_sources(folder / "text", 1_000_000)
    alone = _whole(WorkerTree(), folder, quick)
    leaf_s = alone[2] / LEAVES
    for tree in WHOLE[:1] if quick else WHOLE:
        measured_s, least_s, core_s = _whole(tree, folder, quick)
        step = MachineStep(tree, LEAVES, num_bytes, leaf_s)
        one = Compared(
            "a whole step",
            tree.workers,
            tree.groups,
            max(step.marks(costs).values()),
            measured_s,
            least_s,
            step.core_seconds(costs),
            core_s,
        )
        print(f"  {one}", file=sys.stderr, flush=True)
        yield one


def _whole(tree: WorkerTree, folder: Path, quick: bool) -> tuple[float, float, float]:
    """Seconds of a step of `headway train`: by the clock, the least, of all cores together."""
    num = 4 if quick else 8
    words = ["text", "--preset", "mini", "--max-length", "256", "--batch-size", "64"]
    words += ["--threads", "1", "--device", "cpu", "--no-torch-compile", NUMBER_FORMAT]
    words += ["--max-steps", str(num), "--save-steps", str(num)]
    words += ["--nproc", str(tree.workers), "--groups", str(tree.groups)]
    watch = CpuWatch()
    with tempfile.TemporaryDirectory(dir=folder) as trial:
        _, steps = headway(words, folder, Path(trial), watch=watch)
    ends = steps.ends[WARM_STEPS - 1 :]
    seconds = [after - before for before, after in pairwise(ends)]
    core_s = watch.used_s(ends[0], ends[-1]) / len(seconds)
    return statistics.median(seconds), min(seconds), core_s


# -- simulated


def clusters(costs: Costs, small: Model) -> tuple[Cluster, ...]:
    """What is simulated: links as their makers state them, models and computing assumed."""

    def gpus(inside: float) -> Cluster:
        across = Link(25 * _BILLION, 20e-6)
        return Cluster(
            name=f"GPUs, {inside:g} GB/s inside a machine, 25 GB/s of each to others",
            inside=Link(inside * _BILLION, 5e-6),
            across=across,
            ring=across,
            num_bytes=28 * _BILLION,
            compute_s=5.0,
        )

    network = 1.25 * _BILLION  # 10 Gbit/s, which the workers of a machine share
    processors = Cluster(
        name="processors like this one, 10 Gbit/s between machines",
        inside=shared_memory_link(costs, small.num_bytes),
        across=Link(network / PER_MACHINE, 50e-6),
        ring=Link(network, 50e-6),
        num_bytes=small.num_bytes,
        compute_s=2.3,
    )
    return gpus(300), gpus(100), gpus(25), processors


def simulate_steps(cluster: Cluster, costs: Costs, quick: bool) -> Iterator[dict[str, Any]]:
    """Every size and layout of a cluster."""
    for workers in SIZES[:3] if quick else SIZES:
        draws = 1 if quick else 3 if workers > 4_096 else 9
        for layout in LAYOUTS:
            told = step_time(cluster, layout, workers, costs, draws)
            yield {
                "cluster": cluster.name,
                "workers": workers,
                "layout": layout,
                **asdict(told),
                "pairwise_reduction_s": cluster.pairwise_reduction_s(workers),
                **_lost(cluster, workers, told.step_s),
            }


def _lost(cluster: Cluster, workers: int, step_s: float) -> dict[str, Any]:
    """What failures cost at the formula's interval, and what is left for computing."""
    stall_s = STALLS_S[0]
    between_s = failures.between_failures_s(workers)
    interval_s = failures.best_interval_s(stall_s, between_s)
    kept = 1 - PER_MACHINE / workers  # unless the root's machine is the one
    given = (interval_s, stall_s, RESTART_S, between_s)
    lost = failures.simulate(*given, step_s=step_s)
    with_kept = failures.simulate(*given, step_s=step_s, kept=kept)
    return {
        "between_failures_s": between_s,
        "save_interval_s": interval_s,
        "lost": asdict(lost) | {"total": lost.total},
        "lost_if_kept": asdict(with_kept) | {"total": with_kept.total},
        "computing": cluster.compute_s / step_s * (1 - lost.total),
    }


def check_formula(quick: bool) -> Iterator[dict[str, float]]:
    """sqrt(2 x stall x time between failures), beside the best of many simulated intervals."""
    for workers in SIZES[-1:] if quick else SIZES:
        for stall_s in STALLS_S:
            between_s = failures.between_failures_s(workers)
            formula_s = failures.best_interval_s(stall_s, between_s)
            best_s = failures.best_simulated_s(stall_s, RESTART_S, between_s)
            lost = {
                name: failures.simulate(one, stall_s, RESTART_S, between_s).total
                for name, one in (("formula", formula_s), ("best", best_s))
            }
            yield {
                "workers": workers,
                "stall_s": stall_s,
                "between_failures_s": between_s,
                "formula_s": formula_s,
                "best_simulated_s": best_s,
                "lost_at_formula": lost["formula"],
                "lost_at_best": lost["best"],
            }


# -- all of it


def main() -> None:
    """Measure, check, simulate; write it down unless it was only a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of measuring and checking [3]")
    parser.add_argument("--quick", action="store_true", help="prints, writes nothing")
    asked = parser.parse_args()
    _use_the_allocator()
    torch.set_num_threads(1)  # and processes are forked before any is started
    began_s, load = time.monotonic(), os.getloadavg()[0]
    mini, small = model("mini"), model("small")
    rounds, steps = (1, 5) if asked.quick else (asked.rounds, 12)
    measured: list[dict[str, Costs]] = []
    compared: list[Compared] = []
    for _ in range(rounds):
        by = {
            one.preset: with_handling(calibrate(one.shapes), one.signals, steps)
            for one in (mini, small)
        }
        measured.append(by)
        trees = TREES[:2] if asked.quick else TREES
        compared += check(mini.signals, by["mini"], steps, trees)
        compared += check(mini, by["mini"], steps, trees)
        large = LARGE_TREES[:1] if asked.quick else LARGE_TREES
        compared += check(small, by["small"], steps, large)
    typical = {preset: median_costs([one[preset] for one in measured]) for preset in measured[0]}
    absent = ""
    with tempfile.TemporaryDirectory() as name:
        try:
            compared += check_whole(typical["mini"], mini.num_bytes, Path(name), asked.quick)
        except TrialError as failure:
            absent = str(failure).splitlines()[0]
    found: dict[str, Any] = {
        "schema": "headway.simulation/1",
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "load_before": load,
        "rounds": rounds,
        "gradient_bytes": {one.preset: one.num_bytes for one in (mini, small)},
        "measured": {preset: asdict(costs) for preset, costs in typical.items()},
        "measured_rounds": [{k: asdict(v) for k, v in one.items()} for one in measured],
        "checked": [asdict(one) for one in compared],
        "not_checked": absent,
        "simulated": [
            row
            for cluster in clusters(typical["small"], small)
            for row in simulate_steps(cluster, typical["small"], asked.quick)
        ],
        "clusters": [asdict(one) for one in clusters(typical["small"], small)],
        "formula": [*check_formula(asked.quick)],
    }
    found |= {"seconds": time.monotonic() - began_s, "load_after": os.getloadavg()[0]}
    told = page.as_page(found)
    print(told)
    if not asked.quick:
        path = HERE / "results" / f"{found['date']}-simulate-tree"
        path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        path.with_suffix(".md").write_text(told)


def _use_the_allocator() -> None:
    """Start again with the allocator that Headway's workers have, if this is not it."""
    wanted = allocator.environment()
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


def median_costs(rounds: Sequence[Costs]) -> Costs:
    """The median of each cost."""
    each = [asdict(one) for one in rounds]
    return Costs(**{name: statistics.median(one[name] for one in each) for name in each[0]})


if __name__ == "__main__":
    main()
