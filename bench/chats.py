"""Conversations: short ones, where padding is most of the work; long ones that begin alike."""

import shlex
from collections.abc import Callable
from pathlib import Path

from contenders import Bench, Entry, Trial, Work
from inputs import chats
from report import Figures, Measurement, Target
from trials import THREADS, WARM_STEPS, Steps, headway, peer, rate

from headway.supervise import allocator

# Few steps are taken here: a warm-up as long as an epoch's would outlast them.
WARM_UP = ("--warmup-steps", "2")
SAME = ("--preset", "small", "--threads", str(THREADS), "--device", "cpu")
NUM_CHATS, NUM_PROMPTED = 10_000, 1_000
BATCH = 64
PADDED, PACKED = "Trainer, padded to 1,024", "TRL, packing (bfd)"
PLAIN, BF16, TUNED = "Trainer as it comes", "Trainer, bf16", "Trainer, tuned"
RATE, MEMORY = "answer tokens/s", "peak memory, MB"
_FASTEST = ("--bf16", "--group-by-length")


def figures(told: tuple[float, Steps]) -> Figures:
    """What is compared of a trial."""
    _, steps = told
    return {
        RATE: rate(steps, steps.trained),
        MEMORY: steps.peak_bytes / 1e6,
        f"loss of step {WARM_STEPS + 1}": steps.losses[WARM_STEPS],
    }


def chats_measured(bench: Bench) -> Measurement:
    """Ten thousand chats of 34 tokens, at a max_length of 1,024."""
    work = _work(bench, "chats", chats(NUM_CHATS))
    steps = bench.steps
    by = _trainer(work, bench)
    packed = steps(5)
    trl = ("--steps", str(packed), "--batch", "2")
    entries = [
        Entry(
            PADDED,
            f'bf16, DataCollatorForSeq2Seq(padding="max_length"), 8 chats a step, {steps(3)} '
            "steps: its update is a hundredth of its step, so that more chats a step would not "
            "change its rate",
            by(steps(3), "--bf16", "--to-max-length", batch=8),
        ),
        Entry(
            PACKED,
            "bf16, SFTConfig(packing=True, packing_strategy='bfd', gradient_checkpointing=False), "
            f"2 rows of 1,024 a step, {packed} steps",
            lambda trial: figures(peer("trl_sft.py", trl, work.folder, trial)),
        ),
        Entry(
            PLAIN, f"float32, padded to the longest of the batch, {steps(5)} steps", by(steps(5))
        ),
        Entry(BF16, f"the same with bf16=True, {steps(8)} steps", by(steps(8), "--bf16")),
        _tuned(by, steps(41)),
        _ours(work, steps(26)),
    ]
    lengths = work.plan["data"]["lengths"]
    return Measurement(
        title=f"Chats, {_millions(work)}",
        what=f"{NUM_CHATS:,} chats of {work.plan['data']['tokens'] / NUM_CHATS:.0f} tokens on "
        f"average and {lengths['max']} at most, of which the answers are trained "
        f"({work.plan['data']['trained_tokens'] / work.plan['data']['tokens']:.0%}), at max_length "
        f"1,024, {BATCH} chats a step.",
        notes=("No contender computes the line break behind the last answer.",),
        contenders=bench.take_turns(entries),
        targets=(
            Target(RATE, PADDED, 50),
            Target(RATE, PACKED, 4),
            Target(RATE, PLAIN, 5),
            Target(RATE, TUNED, 1.35),
            Target(MEMORY, BF16, 0.8),
        ),
    )


def prompted_measured(bench: Bench) -> Measurement:
    """Chats that all begin with the same 400 tokens."""
    work = _work(bench, "prompted", chats(NUM_PROMPTED, system_prompt=True), chats(NUM_CHATS))
    entries = [
        _tuned(_trainer(work, bench), bench.steps(3)),
        _ours(work, bench.steps(6)),
    ]
    return Measurement(
        title=f"Chats with one 400-token system prompt, {_millions(work)}",
        what=f"{NUM_PROMPTED:,} chats of {work.plan['data']['tokens'] / NUM_PROMPTED:.0f} tokens "
        f"on average that begin with the same system prompt, {BATCH} chats a step.",
        notes=(),
        contenders=bench.take_turns(entries),
        targets=(Target(RATE, TUNED, 6),),
    )


def _work(bench: Bench, name: str, data: str, learn: str = "") -> Work:
    folder = bench.folder / name
    folder.mkdir()
    (folder / "chats.jsonl").write_text(data)
    (folder / "learn.jsonl").write_text(learn or data)
    words = (*SAME, *WARM_UP, "--max-length", "1024", "--batch-size", str(BATCH))
    return bench.work(name, "chats", "chats.jsonl", words, "learn.jsonl")


def _millions(work: Work) -> str:
    return f"{work.plan['model']['parameters'] / 1e6:.0f}M"


_Make = Callable[..., Trial]


def _trainer(work: Work, bench: Bench) -> _Make:
    """Makes trials of Trainer on this work."""

    def make(steps: int, *options: str, batch: int = BATCH, tuned: bool = False) -> Trial:
        words = ["--steps", str(steps), "--batch", str(batch), *options]
        more = allocator.environment() | bench.compiled if tuned else {}
        return lambda trial: figures(peer("trainer.py", words, work.folder, trial, more=more))

    return make


def _tuned(by: _Make, steps: int) -> Entry:
    """The fastest that settings alone make of Trainer."""
    return Entry(
        TUNED,
        f"bf16, train_sampling_strategy='group_by_length', Headway's allocator, {steps} steps",
        {
            "eager": by(steps, *_FASTEST, tuned=True),
            "compiled": by(steps, *_FASTEST, "--compile", tuned=True),
        },
        decides=RATE,
    )


def _ours(work: Work, steps: int) -> Entry:
    words = ["chats.jsonl", *SAME, *WARM_UP, "--max-length", "1024", "--batch-size", str(BATCH)]
    words += ["--max-steps", str(steps), "--save-steps", str(steps), "--tokenizer", "tokenizer"]
    words += ["--torch-compile"]

    def trial(folder: Path) -> Figures:
        return figures(headway(words, work.folder, folder))

    return Entry("Headway", f"`headway train {shlex.join(words)}`", trial)
