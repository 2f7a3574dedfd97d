"""Whether computing faster changes what is learned: beside Trainer in float32, step by step.

    python bench/parity.py                 text and chats, 300 steps of the mini preset
    python bench/parity.py --preset small  26M weights

Headway trains as it decides by itself (bf16 where that is faster here); Trainer takes the same
start, rows, order and schedule in float32. Held-out losses are transformers' own, in float32.
"""

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from inputs import chats, copy_sources
from report import machine, versions
from trials import HEADWAY, HERE, PEERS, run

WITHIN = 0.005  # of Trainer's held-out loss
STEPS = 300
_LIMIT_S = 3600
_KINDS = {
    "text": ("text", "--max-length", "256", "--batch-size", "8"),
    "chats": ("chats.jsonl", "--max-length", "256", "--batch-size", "64"),
}


def main() -> int:
    """Measure both, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--write", action="store_true", help="to results/")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        here = Path(name)
        copy_sources(here / "text", 4_000_000)
        (here / "chats.jsonl").write_text(chats(25_000))
        told = {kind: compared(kind, asked.preset, asked.steps, here) for kind in _KINDS}
    page = {"preset": asked.preset, "steps": asked.steps, "within": WITHIN, "kinds": told}
    page |= {"machine": machine(), "versions": versions()}
    print(json.dumps(page, indent=1))
    if asked.write:
        stem = f"{date.today().isoformat()}-parity-{asked.preset}"
        (HERE / "results" / f"{stem}.json").write_text(json.dumps(page, indent=1) + "\n")
    return 0 if all(abs(one["difference"]) <= WITHIN for one in told.values()) else 1


def compared(kind: str, preset: str, steps: int, here: Path) -> dict[str, Any]:
    """One kind of data: train here, train there, and the three losses."""
    words = [*_KINDS[kind], "--preset", preset, "--max-steps", str(steps), "--val-size", "400"]
    cache = here / "cache"
    run([HEADWAY, "train", *words, "--run-name", kind], here, cache, limit_s=_LIMIT_S)
    folder, result = here / "runs" / kind, here / f"{kind}.json"
    script = str(PEERS / "plain_trainer.py")
    run([sys.executable, script, str(folder), str(result)], here, cache, limit_s=_LIMIT_S)
    told = json.loads(result.read_text())
    settled = json.loads((folder / "settled.json").read_text())
    return told | {
        "difference": told["headway"] / told["trainer"] - 1,
        "compute_dtype": settled["compute_dtype"],
        "typed": " ".join(["headway train", *words]),
    }


if __name__ == "__main__":
    sys.exit(main())
