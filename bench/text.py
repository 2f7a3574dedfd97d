"""Text in full rows of 256: no padding to leave out, so that what counts is the machine."""

import json
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chats import WARM_UP
from contenders import Bench, Entry, Trial, Work
from inputs import copy_sources
from report import Figures, Measurement, Target
from trials import (
    HERE,
    PEERS,
    THREADS,
    WARM_STEPS,
    Steps,
    TrialError,
    headway,
    peer,
    rate,
    run,
)

from headway.model.sizes import flops_per_token, shape_of
from headway.supervise import allocator

LENGTH = 256
TEXT_BYTES = 4_000_000
BUILT = HERE.parent / "build"
LITGPT = BUILT / "bench-litgpt" / "bin" / "python"
FP32, BF16, TUNED = "Trainer, fp32", "Trainer, bf16", "Trainer, tuned"
NANO, NANO_BF16 = "nanoGPT as it comes", "nanoGPT, bf16"
LLMC, PARTS, PEAK = "llm.c", "LitGPT's parts", "the machine's bf16 peak"
RATE = "tokens/s"


@dataclass(frozen=True)
class Size:
    """A preset, its rows a step, and how many steps each contender takes."""

    preset: str
    batch: int
    slow: int  # float32
    plain: int  # bf16 as it comes
    fast: int


SMALL = Size("small", batch=8, slow=4, plain=8, fast=12)
BASE = Size("base", batch=4, slow=3, plain=4, fast=6)


def figures(told: tuple[float, Steps]) -> Figures:
    """What is compared of a trial."""
    _, steps = told
    return {
        RATE: rate(steps, steps.positions),
        f"loss of step {WARM_STEPS + 1}": steps.losses[WARM_STEPS],
    }


def small_measured(bench: Bench) -> Measurement:
    """The preset for a laptop."""
    return _measured(bench, SMALL)


def base_measured(bench: Bench) -> Measurement:
    """The preset of GPT-2's size."""
    return _measured(bench, BASE)


def _measured(bench: Bench, size: Size) -> Measurement:
    folder = bench.folder / size.preset
    folder.mkdir()
    num_bytes = copy_sources(folder / "text", TEXT_BYTES)
    words = ("--preset", size.preset, "--threads", str(THREADS), "--device", "cpu", *WARM_UP)
    words = (*words, "--max-length", str(LENGTH), "--batch-size", str(size.batch))
    work = bench.work(size.preset, "text", "text", words)
    flops = flops_per_token(shape_of(work.plan["model"]["config"]), LENGTH)
    num = bench.steps(size.fast)
    ours = ["text", *words, "--max-steps", str(num), "--save-steps", str(num)]
    ours += ["--tokenizer", "tokenizer", "--torch-compile"]

    def headway_trial(trial: Path) -> Figures:
        return figures(headway(ours, work.folder, trial))

    peers = Peers(bench, work, size)
    peak = "the best of some sizes of square product, in tokens: what 100% MFU would be"
    entries = [
        *peers.trainer(),
        *peers.others(),
        Entry(PEAK, peak, lambda trial: {RATE: _peak_flops(trial) / flops}),
        Entry("Headway", f"`headway train {shlex.join(ours)}`", headway_trial),
    ]
    return Measurement(
        title=f"Text, {work.plan['model']['parameters'] / 1e6:.0f}M",
        what=f"{num_bytes / 1e6:.1f} MB of Python's standard library in rows of {LENGTH} tokens, "
        f"{size.batch} rows a step, a vocabulary of {work.plan['model']['vocab_size']:,}; "
        f"{flops / 1e6:.0f} MFLOP a token.",
        notes=(
            "nanoGPT and llm.c train GPT-2's shape, as wide, as deep and within 2% as large; the "
            "FLOPs of a token are taken to be the same for all.",
            "Blocks of the others run across documents; a row of Headway's keeps them apart.",
        ),
        contenders=bench.take_turns(entries),
        targets=(
            Target(RATE, FP32, 3.5),
            Target(RATE, BF16, 1.6),
            Target(RATE, TUNED, 1.15),
            Target(RATE, NANO, 3.5),
            Target(RATE, NANO_BF16, 3.5),
            Target(RATE, LLMC, 10),
            Target(RATE, PARTS, 1.15),
            Target(RATE, PEAK, 0.65),
        ),
    )


def _peak_flops(trial: Path) -> float:
    command = [sys.executable, str(PEERS / "matmul.py")]
    return json.loads(run(command, trial, trial / "cache"))["flops"]


class Peers:
    """What takes part beside Headway, on one work."""

    def __init__(self, bench: Bench, work: Work, size: Size) -> None:
        self._folder, self._batch = work.folder, str(size.batch)
        self._slow, self._plain, self._fast = map(bench.steps, (size.slow, size.plain, size.fast))
        self._least = bench.steps(3)
        self._allocator = allocator.environment()
        self._tuned = self._allocator | bench.compiled
        self._alike = f"bf16, Headway's allocator, {self._fast} steps"

    def trainer(self) -> list[Entry]:
        """transformers' Trainer, as it comes and tuned."""
        slow = self._trial("trainer.py", self._slow)
        plain = self._trial("trainer.py", self._plain, "--bf16")
        return [
            Entry(FP32, f"as it comes, {self._slow} steps", slow),
            Entry(BF16, f"bf16=True, {self._plain} steps", plain),
            Entry(TUNED, self._alike, self._both("trainer.py"), decides=RATE),
        ]

    def others(self) -> list[Entry]:
        """Those that are not built on transformers; all have Headway's allocator."""
        nano, llmc = (BUILT / "peers" / name for name in ("nanoGPT", "llm.c"))
        slow = self._trial("nanogpt.py", self._slow, more=self._allocator, needs=nano)
        printed = self._trial("llmc.py", self._least, more=self._allocator, needs=llmc)
        return [
            Entry(
                NANO,
                "its model in a loop like its train.py, which computes in float32 on a CPU; "
                f"Headway's allocator, {self._slow} steps",
                slow,
            ),
            Entry(
                NANO_BF16,
                f"the same under autocast, with fused AdamW; {self._alike}",
                self._both("nanogpt.py", needs=nano),
                decides=RATE,
            ),
            Entry(
                LLMC,
                "`make train_gpt2`, float32: it has nothing else on a CPU; by the milliseconds "
                f"that it prints; Headway's allocator, {self._least} steps",
                printed,
            ),
            Entry(
                PARTS,
                f"litgpt.GPT and its loss, Fabric's bf16-mixed, fused AdamW; {self._alike}",
                self._both("litgpt_parts.py", needs=LITGPT, python=str(LITGPT)),
                decides=RATE,
            ),
        ]

    def _both(self, script: str, **named: Any) -> dict[str, Trial]:
        """As fast as settings make it, compiled and not."""
        eager = self._trial(script, self._fast, "--bf16", more=self._tuned, **named)
        options = ("--bf16", "--compile")
        compiled = self._trial(script, self._fast, *options, more=self._tuned, **named)
        return {"eager": eager, "compiled": compiled}

    def _trial(
        self,
        script: str,
        steps: int,
        *options: str,
        more: Mapping[str, str] | None = None,
        needs: Path | None = None,
        python: str = sys.executable,
    ) -> Trial:
        words = ["--steps", str(steps), "--batch", self._batch, *options]

        def trial(folder: Path) -> Figures:
            if needs and not needs.exists():
                where = needs.relative_to(BUILT.parent)
                raise TrialError(f"{where} is not here: `make bench` fetches it")
            return figures(peer(script, words, self._folder, folder, more=more, python=python))

        return trial
