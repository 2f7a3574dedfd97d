"""Headway beside what a person would otherwise use, in one run, turn by turn: `make bench`.

Every target of speed is in the table that this writes, met or not, and so is every contender, one
that could not be measured with the reason.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from datetime import date
from pathlib import Path

from chats import chats_measured, prompted_measured
from contenders import Bench
from report import Measurement, as_json, as_page, machine, versions
from start import answering_measured, first_step_measured
from text import base_measured, small_measured
from trials import HERE, LIMIT_S, PEERS, THREADS, WARM_STEPS, run

from headway.supervise import allocator

CONDITIONS = (
    f"Every trial is a process of its own with {THREADS} threads on the CPU and a cache of its own "
    f"that is empty; one that takes longer than {LIMIT_S} s is ended. Contenders take turns: "
    "A B C A B C.",
    "Tokenizer, shape, batch, optimizer (AdamW, fused where there is a choice), learning rate and "
    "its schedule are those of Headway's plan, for all contenders, where not said otherwise.",
    f"Tokens per second are taken from the end of step {WARM_STEPS} to the end of the last step by "
    "the clock on the wall: making batches and keeping books count, starting up and compiling do "
    "not.",
    "Peak memory is the most that the training process held, libraries included, before its first "
    "save.",
    "Who compiles finds what was compiled in an earlier trial; Headway's own cache is empty each "
    "time.",
    "Headway compiles where its rate is compared, as its plan does by itself for runs of a quarter "
    "of an hour and more, and does not where the first step is.",
    "Nothing is saved between steps on either side. After its last step Headway probes, saves and "
    "reads back; the others do none of it, and that time is in no figure.",
    "A ratio is Headway's figure over the other's, of the medians; the least and the most of the "
    "rounds stand beside it.",
)
WORKS: dict[str, Callable[[Bench], Measurement]] = {
    "chats": chats_measured,
    "prompted": prompted_measured,
    "text-small": small_measured,
    "text-base": base_measured,
    "first-step": first_step_measured,
    "answering": answering_measured,
}


def main() -> None:
    """Measure everything; write it down unless it was only a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each work [5]")
    parser.add_argument("--only", choices=[*WORKS], help="one work alone, to a file of its own")
    parser.add_argument("--quick", action="store_true", help="few steps; prints, writes nothing")
    asked = parser.parse_args()
    began_s, load = time.monotonic(), os.getloadavg()[0]
    wanted = [asked.only] if asked.only else [*WORKS]
    measured: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), 1 if asked.quick else asked.rounds, asked.quick)
        _warm_up(bench)
        for work in wanted:
            print(work, file=sys.stderr, flush=True)
            measured.append(WORKS[work](bench))
            head = _head(bench, time.monotonic() - began_s, load)
            if not asked.quick:  # after every work: who cuts it short keeps what was measured
                _write(measured, head, asked.only)
    print(as_page(measured, head))
    broken = [one.title for one in measured if one.contenders[-1].absent]
    if broken:
        sys.exit(f"Headway failed: {', '.join(broken)}")


def _warm_up(bench: Bench) -> None:
    """Read every library's files once: no contender is the one that waits for the disk."""
    imports = "import accelerate, peft, timed_trainer, headway.training.worker"
    code = f"import sys; sys.path.append({str(PEERS)!r}); {imports}"
    run([sys.executable, "-c", code], bench.folder, bench.folder / "cache")


def _head(bench: Bench, took_s: float, load: float) -> dict[str, object]:
    """Under what conditions it was measured."""
    gives = " ".join(f"{name}={value}" for name, value in allocator.environment().items())
    extras = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    pinned = [
        pin for name in ("bench", "bench-litgpt") for pin in extras["optional-dependencies"][name]
        if "==" in pin
    ]  # fmt: skip
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions() | dict(pin.split("==") for pin in pinned),
        "conditions": [
            *CONDITIONS,
            f"Headway's allocator here: `{gives}`.",
            f"Rounds: {bench.rounds}, in {took_s:.0f} s; the machine's load before it was "
            f"{load:.1f}.",
        ],
    }


def _write(measured: list[Measurement], head: dict[str, object], only: str | None) -> None:
    path = HERE / "results" / "-".join(filter(None, (str(head["date"]), "speed", only)))
    path.parent.mkdir(exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(as_json(measured, head), indent=2) + "\n")
    path.with_suffix(".md").write_text(as_page(measured, head))


if __name__ == "__main__":
    main()
