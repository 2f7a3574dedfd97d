"""Receipts of streams, compared with an independent count of what each step really used.

An instrument in each worker writes down, at each update, the token ids of all pieces that it put
into it. They are decoded here, and records are told apart by what they say: no row number, no
order, cursor or ledger of ours is asked. Sources, sizes, epochs, batch sizes, kills, resumes and
the number of workers of each attempt are drawn at random.
"""

import gzip
import json
import os
import random
import re
import signal
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
import zstandard
from tests.stories.conftest import Headway, cache, headway, until
from tokenizers import Tokenizer

__all__ = ["cache", "headway"]  # fixtures

INSTRUMENT = """
import json, os, time
import torch
from headway.model.forward import Forward
from headway.training.distributed.place import TeamPlace
from headway.training.step import Stepper
real_place, attempt = TeamPlace.of.__func__, [0]
def place(cls, go, *more):
    attempt[0] = go.attempt
    return real_place(cls, go, *more)
TeamPlace.of = classmethod(place)
real_loss, real_update, real_step = Forward.loss, torch.optim.AdamW.step, Stepper.take_step
used = []
def loss(self, micro, num):
    ids, positions = micro.ids_N.tolist(), micro.positions_N.tolist()
    breaks = [i for i in range(1, len(ids)) if positions[i] != positions[i - 1] + 1]
    used.extend(ids[a:b] for a, b in zip([0, *breaks], [*breaks, len(ids)]))
    return real_loss(self, micro, num)
def take_step(self, batch, **more):
    used.clear()
    self.optimizer.named = batch.step
    return real_step(self, batch, **more)
def update(self, *more):
    done = real_update(self, *more)
    line = {"attempt": attempt[0], "pid": os.getpid(), "step": self.named, "ids": used}
    with open("used.jsonl", "ab", buffering=0) as file:  # whole lines, of several workers
        file.write((json.dumps(line) + "\\n").encode())
    time.sleep(0.02)
    return done
Forward.loss, Stepper.take_step, torch.optim.AdamW.step = loss, take_step, update
"""
TIMES = {"once": 1, "twice": 2}


@dataclass(frozen=True)
class Shape:
    """One run drawn at random.

    Attributes:
        words: what is typed after `headway train data`.
        sizes: records of each file.
        bad: lines of all files that are no JSON.
        stops: a signal, and after how many more steps it is sent.
        workers: of each start, one more than there are stops.
    """

    words: tuple[str, ...]
    sizes: tuple[int, ...]
    bad: int
    stops: tuple[tuple[signal.Signals, int], ...]
    workers: tuple[int, ...]


def write_files(headway: Headway, chance: random.Random, *, is_chat: bool) -> tuple[list[int], int]:
    """Files of records that no other record resembles; their sizes, and how many lines are bad."""
    sizes = [chance.randint(3, 60) for _ in range(chance.randint(1, 4))]
    sizes[0] = max(sizes[0], 25)
    number = bad = 0
    for at, size in enumerate(sizes):
        lines: list[str] = []
        for _ in range(size):
            lines.append(json.dumps(record(number, chance, is_chat=is_chat)) + "\n")
            number += 1
        if size > 40 and chance.random() < 0.5:
            lines.insert(chance.randrange(size), '{"text": "cut in hal\n')
            bad += 1
        content = "".join(lines).encode()
        ending = chance.choice(["", ".gz", ".zst"])
        packed = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[ending](content)
        headway.write(f"data/part-{at}.jsonl{ending}", packed)
    return sizes, bad


def record(number: int, chance: random.Random, *, is_chat: bool) -> dict[str, Any]:
    if is_chat:  # the number twice: the first may be half in a shared prefix
        asked = {"role": "user", "content": "Say it. " * chance.randint(1, 3)}
        answer = f"It is r{number:05}, r{number:05}."
        return {"messages": [asked, {"role": "assistant", "content": answer}]}
    words = [f"w{number:05}x{at:03}" for at in range(chance.randint(2, 40))]
    return {"text": " ".join(words)}


def draw(headway: Headway, seed: int, *, is_chat: bool) -> Shape:
    """A shape, with its files written."""
    chance = random.Random(seed)
    sizes, bad = write_files(headway, chance, is_chat=is_chat)
    batch_size = chance.randint(1, 16)
    epochs = chance.choice([0, 1, 1, 2, 3])
    # So many steps that an epoch or two are over, or not even one.
    steps = max(4, round(sum(sizes) * chance.uniform(0.4, 2.5) / batch_size))
    words = [
        "--preset", "tiny", "--threads", 1, "--survey-exact", 10, "--batch-size", batch_size,
        "--max-length", 160 if is_chat else chance.choice([32, 64, 128]),
        "--save-steps", chance.randint(2, 6),
        *(("--epochs", epochs) if epochs else ("--max-steps", steps)),
        *(("--val-size", chance.randint(1, 5)) if chance.random() < 0.4 else ()),
    ]  # fmt: skip
    stops = [
        (chance.choice([signal.SIGKILL, signal.SIGTERM]), chance.randint(1, 6))
        for _ in range(chance.randint(1, 3))
    ]
    workers = tuple(chance.randint(1, 3) for _ in range(len(stops) + 1))
    return Shape(tuple(map(str, words)), tuple(sizes), bad, tuple(stops), workers)


def train(headway: Headway, shape: Shape) -> None:
    """Train to the end, stopped and killed on the way."""
    environment = headway.mutate("instrument", INSTRUMENT)
    words = ["train", "data", *shape.words, "--max-restarts", "0", "--nproc"]
    for workers, (number, after) in zip(shape.workers, shape.stops, strict=False):
        before = len(used(headway))
        process = headway.start(*words, workers, **environment)
        until(
            lambda p=process, b=before, a=after: p.poll() is not None or len(used(headway)) >= b + a
        )
        if process.poll() is None:
            trainer = used(headway)[-1]["pid"]  # or another worker
            process.send_signal(number) if number == signal.SIGTERM else kill(trainer)
        process.communicate()
    told = headway(*words, shape.workers[-1], **environment)
    assert told.code == 0, told.err


def kill(pid: int) -> None:
    """End a trainer, which may have ended by itself just now."""

    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def used(headway: Headway) -> list[dict[str, Any]]:
    """What the instruments wrote, whole lines only; all workers' pieces of a step together."""
    path = headway.here / "used.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    steps: dict[tuple[int, int], dict[str, Any]] = {}
    for one in lines:
        step = steps.setdefault((one["attempt"], one["step"]), {**one, "ids": []})
        step |= {"pid": one["pid"], "ids": step["ids"] + one["ids"]}
    return list(steps.values())


def by_step(headway: Headway) -> dict[int, list[str]]:
    """The pieces of text that each step's update came from; a repeated step counts once."""
    run = headway.here / "runs" / "data"
    tokenizer = Tokenizer.from_file(str(run / "model" / "tokenizer.json"))
    last = {one["step"]: one["ids"] for one in used(headway)}
    return {
        step: [tokenizer.decode(ids, skip_special_tokens=False) for ids in pieces]
        for step, pieces in last.items()
    }


def epochs_of(headway: Headway) -> dict[int, int]:
    """Which epoch each step was told to belong to."""
    steps = [e for e in headway.events("data") if e["event"] == "step_done"]
    return {e["step"]: e["epoch"] for e in steps}


def found(headway: Headway, pattern: str) -> dict[int, Counter[str]]:
    """How often each thing was trained, by epoch."""
    texts, epochs = by_step(headway), epochs_of(headway)
    assert sorted(texts) == sorted(epochs) == list(range(1, len(texts) + 1))
    counted: dict[int, Counter[str]] = {}
    for step, pieces in texts.items():
        names = [name for text in pieces for name in re.findall(pattern, text)]
        counted.setdefault(epochs[step], Counter()).update(names)
    return counted


def times_told(line: str) -> dict[int, int]:
    """The closing line's "30 rows 3 times, 16 4 times" as {3: 30, 4: 16}."""
    told = re.findall(r"([\d,]+)(?: rows?)? (once|twice|[\d,]+ times)(?: each)?[, ·]", line)
    return {TIMES.get(t) or int(t.split()[0].replace(",", "")): int(n) for n, t in told}


def check_conversations(headway: Headway, shape: Shape) -> None:
    """Each record is a row: every number of the receipt is compared."""
    counted = found(headway, r"r(\d{5})\.")
    receipt = headway.receipt("data")
    rows, every = receipt["rows"], sum(shape.sizes)
    assert {n for c in counted.values() for n in c.values()} == {1}  # at most once per epoch
    assert sorted(counted) == list(range(1, len(counted) + 1))
    whole = [names.keys() for epoch, names in counted.items() if epoch < max(counted)]
    for names in whole:
        assert len(names) == every - rows["held_out"]
        assert names == whole[0]
    total = sum(counted.values(), Counter())
    assert rows["applications"] == rows["applications_planned"] == total.total()
    assert rows["trained"] == rows["planned"] == len(total)
    assert (rows["missing"], rows["repeated"]) == (0, 0)
    assert times_told(receipt["line"]) == dict(Counter(total.values())), receipt["line"]
    lines = every + shape.bad
    assert len(whole) * lines <= rows["read"] <= (len(whole) + 1) * lines
    bad = sum(rows["rejected"].values())
    assert len(whole) * shape.bad <= bad <= (len(whole) + 1) * shape.bad


def check_texts(headway: Headway, shape: Shape) -> None:
    """Rows are cut anywhere: words are compared, but for those that a cut goes through."""
    counted = found(headway, r"w\d{5}x\d{3}(?!\d)")
    receipt = headway.receipt("data")
    assert {n for c in counted.values() for n in c.values()} == {1}
    tokens = sum(len(ids) for one in last_uses(headway) for ids in one)
    assert receipt["tokens"]["input"] == tokens
    whole = [words for epoch, words in counted.items() if epoch < max(counted)]
    for words in whole:
        records = {word[:6] for word in words}
        assert len(records) >= 0.9 * sum(shape.sizes) - receipt["rows"]["held_out"]
    assert (receipt["rows"]["missing"], receipt["rows"]["repeated"]) == (0, 0)


def last_uses(headway: Headway) -> list[list[list[int]]]:
    """The ids of each step, of its last update."""
    return list({one["step"]: one["ids"] for one in used(headway)}.values())


def counted_alike(headway: Headway, seed: int, *, is_chat: bool) -> None:
    shape = draw(headway, seed, is_chat=is_chat)
    train(headway, shape)
    assert headway.receipt("data")["contract"]["verdict"] == "kept"
    (check_conversations if is_chat else check_texts)(headway, shape)


@pytest.mark.parametrize(("seed", "is_chat"), [(1, True), (6, False)])
def test_a_streams_receipt_is_what_an_independent_count_finds(
    headway: Headway, seed: int, is_chat: bool
) -> None:
    counted_alike(headway, seed, is_chat=is_chat)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(10, 30))
def test_twenty_streams_of_random_shapes_are_counted_alike(headway: Headway, seed: int) -> None:
    counted_alike(headway, seed, is_chat=seed % 3 != 0)
