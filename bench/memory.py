"""How much memory a training run takes, beside what its plan estimated.

    python bench/memory.py              every shape; results/DATE-memory.json and .md
    python bench/memory.py --only NAME  one shape; prints, writes nothing

Each shape is one `headway train` in a process of its own, as a person types it. The receipt has
both numbers: the plan's peak, and the most that the kernel ever saw the trainer's process hold.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from inputs import chats, copy_sources
from trials import HEADWAY, HERE, run

from headway.base.machine import this_machine
from headway.base.units import size
from headway.supervise.allocator import choose_allocator

WITHIN = 0.15  # how far the estimated peak may be from the real one
_CHATS = ("chats.jsonl", "--max-length", "1024", "--batch-size", "64")
_TEXT = ("text", "--max-length", "256", "--batch-size", "16")
_STEPS = ("--max-steps", "6")


@dataclass(frozen=True)
class Case:
    """One shape: what is typed after `headway train`."""

    name: str
    words: tuple[str, ...]
    after: str = ""  # trains the model that this case's run made


@dataclass(frozen=True)
class Peak:
    """What came of it, in bytes."""

    name: str
    typed: str
    parts: dict[str, int]
    estimated: int
    actual: int
    seconds: float

    @property
    def ratio(self) -> float:
        """Estimated over actual."""
        return self.estimated / self.actual


CASES = (
    Case("tiny-text-fp32", (*_TEXT, "--preset", "tiny", "bf16=false")),
    Case("mini-chats-bf16", (*_CHATS, "--preset", "mini", "bf16=true")),
    Case("small-text-fp32", (*_TEXT, "--preset", "small", "bf16=false")),
    Case("small-text-bf16", (*_TEXT, "--preset", "small", "bf16=true")),
    Case("small-chats-bf16", (*_CHATS, "--preset", "small", "bf16=true")),
    Case(
        "small-long-checkpointed",
        (
            *("text", "--preset", "small", "bf16=true", "--max-length", "4096"),
            *("--batch-size", "2", "--gradient-checkpointing"),
        ),
    ),
    Case("base-text-bf16", (*_TEXT[:3], "--batch-size", "8", "--preset", "base", "bf16=true")),
    Case("small-chats-lora", (*_CHATS, "--lora", "bf16=true"), after="small-chats-bf16"),
    Case("base-text-lora", (*_TEXT, "--lora", "bf16=true"), after="base-text-bf16"),
    Case(
        "base-chats-lora-fp32",
        (*_CHATS, "--lora", "bf16=false"),
        after="base-text-bf16",
    ),
)


def main(arguments: list[str]) -> int:
    """Measure, print, and write the files where everything was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[case.name for case in CASES])
    only = parser.parse_args(arguments).only
    wanted = set(only or [case.name for case in CASES])
    wanted |= {case.after for case in CASES if case.name in wanted}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "chats.jsonl").write_text(chats(4000))
        copy_sources(here / "text", 3_000_000)
        peaks: list[Peak] = []
        for case in CASES:
            if case.name in wanted:
                peaks.append(measured(case, here))
                print(line(peaks[-1]), flush=True)
    if not only:
        write(peaks)
    return 0 if all(abs(peak.ratio - 1) <= WITHIN for peak in peaks) else 1


def measured(case: Case, here: Path) -> Peak:
    """Run one case to its end and read its receipt."""
    model = ("--model", f"runs/{case.after}/model") if case.after else ()
    words = ("train", *case.words, *model, *_STEPS)
    run([HEADWAY, *words, "--run-name", case.name], here, here / "cache")
    folder = here / "runs" / case.name
    receipt: Any = json.loads((folder / "receipt.json").read_text())
    plan: Any = json.loads((folder / "plan.json").read_text())
    both = receipt["plan_against_actual"]["peak_memory"]
    return Peak(
        name=case.name,
        typed=" ".join(("headway", *words)),
        parts={name: value for name, value in plan["memory"].items() if name != "peak"},
        estimated=both["foretold"],
        actual=both["actual"],
        seconds=round(receipt["time"]["total"], 1),
    )


def line(peak: Peak) -> str:
    """One case in one line."""
    return f"{peak.name:24} {size(peak.estimated):>8} {size(peak.actual):>8} {peak.ratio:5.2f}"


def write(peaks: list[Peak]) -> None:
    """The dated files."""
    machine = this_machine()
    conditions = {
        "cpu": machine.cpu,
        "cores": machine.cores,
        "memory_bytes": machine.memory_bytes,
        "allocator": choose_allocator().value,
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in ("headway", "torch", "transformers", "peft")},
    }
    cases = [asdict(peak) | {"ratio": round(peak.ratio, 3)} for peak in peaks]
    stem = HERE / "results" / f"{date.today().isoformat()}-memory"
    told = {"conditions": conditions, "within": WITHIN, "cases": cases}
    stem.with_suffix(".json").write_text(json.dumps(told, indent=1) + "\n")
    stem.with_suffix(".md").write_text(page(peaks, conditions))


def page(peaks: list[Peak], conditions: dict[str, Any]) -> str:
    """The same for people."""
    worst = max(peaks, key=lambda peak: abs(peak.ratio - 1))
    middle = median(peak.ratio for peak in peaks)
    versions = ", ".join(f"{name} {number}" for name, number in conditions["versions"].items())
    rows = "\n".join(
        f"| {p.name} | {size(p.estimated)} | {size(p.actual)} | {p.ratio:.2f} | `{p.typed}` |"
        for p in peaks
    )
    return f"""# Peak memory, estimated and actual

{date.today().isoformat()} · {conditions["cpu"]}, {conditions["cores"]} cores · {versions}
· allocator: {conditions["allocator"]}

Estimated is what the plan says before anything is loaded; actual is the most resident memory of the
trainer's process (VmHWM), saves included, libraries included. The ratio is to lie within
{WITHIN:.0%} of 1: the worst is {worst.ratio:.2f} ({worst.name}), the median {middle:.2f}.

| shape | estimated | actual | ratio | typed |
|---|---|---|---|---|
{rows}
"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
