"""The cases: their data and model, how they are started, and by what everybody is judged."""

import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from failures.systems import Facts, Running, Start

from headway.data.examples.tokenizer import byte_level

SMALL = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
LARGE = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4}
NAMED = ("--run-name", "case", "--max-restarts", "0")


@dataclass(frozen=True)
class Judged:
    """How a system did in a case.

    Attributes:
        handled: nothing was lost, or it said so with a non-zero exit code.
        lost: in a few words; "nothing" where nothing was.
    """

    handled: bool
    lost: str


@dataclass(frozen=True)
class Case:
    """Something that goes wrong.

    Attributes:
        id: of docs/failures.yaml.
        title: as a person would say it.
        make: writes data and model into the case's folder.
        starts: of the command, in turn.
        judge: of what the starts came to, the same for all.
        says: what output has to match to have said why; the same for all.
    """

    id: str
    title: str
    make: Callable[[Path], None]
    starts: tuple[Start, ...]
    judge: Callable[[Sequence[Facts]], Judged]
    says: str

    @property
    def name(self) -> str:
        """For the command line and folders."""
        return f"{self.id}-{re.sub('[^a-z0-9]+', '-', self.title.lower()).strip('-')}"


# -- data and models -----------------------------------------------------------------------------


def model(folder: Path, poison: str = "", **shape: Any) -> None:
    """A Llama with fresh weights; the embedding of the character `poison` is NaN."""
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(1)
    config = SMALL | {"vocab_size": 259, "max_position_embeddings": 8192} | shape
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
    made = LlamaForCausalLM(
        LlamaConfig(
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=False,
            **special,
            **config,
        )
    )
    words = byte_level()
    if poison:
        made.get_input_embeddings().weight.data[words.id_of(poison)] = float("nan")
    made.save_pretrained(folder / "model")
    words.save(folder / "model")


def rows(folder: Path, records: Sequence[dict[str, Any] | str], name: str = "rows.jsonl") -> None:
    """Records as JSONL; text stands as it is."""
    lines = [one if isinstance(one, str) else json.dumps(one) for one in records]
    (folder / name).write_text("\n".join(lines) + "\n")


def texts(num: int, length: int = 64, first: int = 0) -> list[dict[str, Any]]:
    """Texts that differ, of about this many characters."""
    line = "The harbor of Harrowmere opens at nine and closes when the lamps are lit. "
    return [
        {"text": f"{first + n}: " + (line * (1 + length // len(line)))[: length - 6]}
        for n in range(num)
    ]


def tokens(num: int, masked: int) -> list[dict[str, Any]]:
    """Rows of tokens; of the first `masked`, no label counts."""
    ids = [[100 + (n + i) % 40 for i in range(24)] for n in range(num)]
    return [
        {"input_ids": one, "labels": [-100] * len(one) if n < masked else one}
        for n, one in enumerate(ids)
    ]


def simple(records: Sequence[dict[str, Any] | str], **options: Any) -> Callable[[Path], None]:
    """Data and a model."""

    def make(folder: Path) -> None:
        rows(folder, records)
        model(folder, **options)

    return make


# -- what was said ------------------------------------------------------------------------------


def said(output: str, pattern: str) -> str:
    """The last line that matches, "" if none does. Progress bars say nothing but how far it is."""
    lines = [one for one in re.split(r"[\r\n]+", output) if not _BAR.search(one)]
    return next((one for one in reversed(lines) if re.search(pattern, one, re.IGNORECASE)), "")


_BAR = re.compile(r"\d+%\||\b\d+%.*\d+/\d+ \[|(it|examples|s)/s\]")


# -- judges --------------------------------------------------------------------------------------


def lost_steps(facts: Facts) -> str:
    """Finished steps that no checkpoint has."""
    lost = facts.steps - facts.saved
    return f"{lost} of {facts.steps} steps" if lost > 0 else "nothing"


def trains_or_says(found: Sequence[Facts]) -> Judged:
    """Weights moved and are finite, or the exit code says that they did not move."""
    last = found[-1]
    if last.moved and last.finite:
        return Judged(True, "nothing")
    lost = "all weights are NaN" if last.moved else "nothing learned"
    return Judged(last.exit_code != 0 and not last.moved, f"{lost} in {last.steps} steps")


def finite_or_says(found: Sequence[Facts]) -> Judged:
    """No weights are NaN, and the run does not call itself a success."""
    last = found[-1]
    if last.finite is False:
        return Judged(False, f"all weights NaN after {last.steps} steps")
    return Judged(last.exit_code != 0, "nothing" if last.finite else lost_steps(last))


def saves_all(found: Sequence[Facts]) -> Judged:
    """The newest checkpoint has every step."""
    last = found[-1]
    lost = last.steps - last.saved
    return Judged(
        lost <= 0 and last.steps > 0, f"{lost} of {last.steps} steps" if lost > 0 else "nothing"
    )


def stops_saved(found: Sequence[Facts]) -> Judged:
    """Asked to stop, it saved what was finished and ended."""
    last = found[-1]
    if last.exit_code is None:
        return Judged(False, "it did not stop")
    return Judged(last.saved >= last.steps, lost_steps(last))


def resumes(target: int) -> Callable[[Sequence[Facts]], Judged]:
    """The second start ends with all steps, without a person's help."""

    def judge(found: Sequence[Facts]) -> Judged:
        last = found[-1]
        done = last.exit_code == 0 and last.steps == target
        return Judged(done, "nothing" if done else f"does not resume; ends with step {last.steps}")

    return judge


def second_file(found: Sequence[Facts]) -> Judged:
    first, last = found
    new = last.steps - first.steps
    return Judged(new > 0 or last.exit_code != 0, "nothing" if new > 0 else "the whole second file")


def warms_up(found: Sequence[Facts]) -> Judged:
    """Warm-up is shortened or refused, or at least said to be longer than the run."""
    last = found[-1]
    told = bool(said(last.output, WARMUP))
    lost = "nothing" if told else "all 10 steps ran at under 1% of the rate, without a word"
    return Judged(told or last.exit_code != 0, lost)


def counts_five(found: Sequence[Facts]) -> Judged:
    told = bool(said(found[-1].output, UNUSED))
    return Judged(told, "nothing" if told else "5 of 20 rows, without a word")


def keeps_answers(found: Sequence[Facts]) -> Judged:
    last = found[-1]
    told = last.exit_code != 0 or bool(said(last.output, CUT))
    return Judged(told, "nothing" if told else "the answers of half of the rows, without a word")


def tells_waiting(found: Sequence[Facts]) -> Judged:
    told = bool(said(found[-1].output, WAITING))
    return Judged(told, "nothing" if told else "20 s of silence")


def finds_damage(found: Sequence[Facts]) -> Judged:
    last = found[-1]
    if said(last.output, DAMAGED):
        return Judged(True, "nothing")
    return Judged(
        last.exit_code != 0, "trains on with damaged weights" if last.exit_code == 0 else "nothing"
    )


def survives_memory(found: Sequence[Facts]) -> Judged:
    last = found[-1]
    done = last.exit_code == 0 and bool(last.moved)
    kept = last.exit_code is not None and last.saved >= last.steps
    return Judged(done or kept, "nothing" if done else lost_steps(last))


def keeps_older(found: Sequence[Facts]) -> Judged:
    last = found[-1]
    lost = last.steps - last.saved
    return Judged(
        last.exit_code not in (0, None), f"{lost} of {last.steps} steps" if lost > 0 else "nothing"
    )


# -- what is done to a run -----------------------------------------------------------------------


def send_after(step: int, number: signal.Signals) -> Callable[[Running], None]:
    """A signal once so many steps are finished."""

    def act(running: Running) -> None:
        if running.wait_for(lambda: running.num_steps() >= step):
            running.send(number)

    return act


def kill_in_save(step: int) -> Callable[[Running], None]:
    """SIGKILL once a checkpoint's folder of any name has a first file in it."""

    def act(running: Running) -> None:
        def begun() -> bool:
            folders = running.runs.glob(f"*checkpoint-{step}*")
            return any(any(one.iterdir()) for one in folders if one.is_dir())

        if running.wait_for(begun):
            running.send(signal.SIGKILL)

    return act


def feed_and_stop(running: Running) -> None:
    """Write some rows into the pipe, then none for 20 s."""
    pipe = running.folder / "rows.jsonl"

    def write() -> None:
        with pipe.open("w") as file:
            for record in texts(40):
                file.write(json.dumps(record) + "\n")
            file.flush()
            running.wait_for(lambda: False, 20)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    running.wait_for(lambda: not writer.is_alive(), 60)
    time.sleep(0.5)
    running.send(signal.SIGKILL)


def flip_bit(running: Running) -> None:
    """Before the second start reads it: one bit in the middle of the newest weights."""
    folders = [p for p in running.runs.glob("checkpoint-*") if p.is_dir() and not p.is_symlink()]
    newest = max(folders, key=lambda p: int(p.name.rpartition("-")[2]), default=None)
    if newest is None:
        return
    with (newest / "model.safetensors").open("r+b") as file:
        file.seek(os.fstat(file.fileno()).st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x40]))


# -- the cases -----------------------------------------------------------------------------------

UNUSED = r"\b5\b[^\n]*(reject|drop|skip|filter|unusable|not used|nothing)|reject[^\n]*\b5\b"
CUT = r"cut|truncat|lose (its|their) answer|answers?[^\n]*(lost|beyond)|max_length"
WAITING = r"waiting for|no (new )?(data|rows)|stall"
DAMAGED = r"damaged|corrupt|quarantine|does not match|differs from its hash"
WARMUP = r"warm-?up[^\n]*(lower|long|whole|short)"

FULL = {"per_device_train_batch_size": 4, "num_train_epochs": 1, "save_strategy": "no"}
SIGNALS = {
    "per_device_train_batch_size": 4,
    "max_steps": 60,
    "save_strategy": "steps",
    "save_steps": 20,
}
OURS_SIGNALS = ("--batch-size", 4, "--max-steps", 60, "--save-steps", 20, "--max-length", 256)


def from_model(*words: object) -> tuple[object, ...]:
    """What is typed after `headway train DATA`, but for the folder of runs."""
    return ("--model", "../model", *NAMED, *words)


def nan_rows() -> list[dict[str, Any]]:
    found = texts(40)
    found[25]["text"] += " Z"
    return found


def questions() -> list[dict[str, Any]]:
    """Twenty prompts with answers; before ten of them, the prompt alone fills a row."""
    return [
        {
            "prompt": ("Tell me more. " * (20 if n % 2 else 1)) + f"Number {n}? ",
            "completion": "Yes.",
        }
        for n in range(20)
    ]


def make_two_files(folder: Path) -> None:
    rows(folder, texts(64))
    rows(folder, texts(32, first=100), "second.jsonl")
    model(folder)


def make_pipe(folder: Path) -> None:
    os.mkfifo(folder / "rows.jsonl")
    model(folder)


def make_long_row(folder: Path) -> None:
    def answered(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"prompt": f"{n}? ", "completion": one["text"]} for n, one in enumerate(records)]

    rows(folder, answered(texts(24)), "short.jsonl")
    rows(folder, answered([*texts(24), *texts(1, 6000, first=90)]))
    model(folder, vocab_size=16384)


def with_broken_line() -> list[dict[str, Any] | str]:
    return [*texts(3), '{"text": "a line that breaks of', *texts(36, first=10)]


CASES = (
    Case(
        "D01",
        "fewer rows than a batch",
        simple(texts(3)),
        (
            Start(
                {**FULL, "per_device_train_batch_size": 8, "dataloader_drop_last": True},
                from_model("--batch-size", 8, "--max-length", 64),
            ),
        ),
        trains_or_says,
        r"lower|fewer|too (few|short|little|small)|no batch|less than|not to be a single sample",
    ),
    Case(
        "F27",
        "all labels masked",
        simple(tokens(20, masked=20)),
        (Start(FULL, from_model("--batch-size", 4)),),
        trains_or_says,
        r"(no token|nothing|trains? no|mask|-100|0 samples|num_samples=0|empty)",
    ),
    Case(
        "D04",
        "rows that train nothing among others",
        simple(tokens(20, masked=5)),
        (Start(FULL, from_model("--batch-size", 4, "--max-rejected", 0.5)),),
        counts_five,
        UNUSED,
    ),
    Case(
        "T05",
        "answers beyond max_length",
        simple(questions()),
        (Start(FULL, from_model("--batch-size", 4, "--max-length", 128), max_length=128),),
        keeps_answers,
        CUT,
    ),
    Case(
        "D06",
        "a malformed line",
        simple(with_broken_line()),
        (Start(FULL, from_model("--batch-size", 4, "--max-length", 64)),),
        lambda found: Judged(
            True, "nothing" if found[-1].moved else "the run, until somebody finds the line"
        ),
        r"rows\.jsonl:4\b|row [34]\b|\b1 rejected",
    ),
    Case(
        "F30",
        "a row that gives NaN",
        simple(nan_rows(), poison="Z"),
        (Start(FULL, from_model("--batch-size", 4, "--max-length", 64)),),
        finite_or_says,
        r"not finite|non-finite",
    ),
    Case(
        "F29",
        "learning rate 0",
        simple(texts(40)),
        (Start({**FULL, "learning_rate": 0.0}, from_model("--batch-size", 4, "--lr", 0)),),
        trains_or_says,
        r"learning.rate[^\n]*(above|greater|positive|must)|need +more than 0",
    ),
    Case(
        "L07",
        "warm-up longer than the run",
        simple(texts(40)),
        (
            Start(
                {**FULL, "warmup_steps": 1000},
                from_model("--batch-size", 4, "--warmup-steps", 1000, "--max-length", 64),
            ),
        ),
        warms_up,
        WARMUP,
    ),
    Case(
        "B04",
        "accumulation longer than the epoch",
        simple(texts(5)),
        (
            Start(
                {
                    **FULL,
                    "per_device_train_batch_size": 1,
                    "gradient_accumulation_steps": 16,
                },
                from_model(
                    *("--per-device-train-batch-size", 1, "--gradient-accumulation-steps", 16),
                    *("--max-length", 32),
                ),
            ),
        ),
        trains_or_says,
        r"batch_size[^\n]*lower|accumulation[^\n]*(lower|longer)",
    ),
    Case(
        "R01",
        "a second file resumed with epochs",
        make_two_files,
        (
            Start(
                {**FULL, "save_strategy": "steps", "save_steps": 8},
                from_model("--batch-size", 4, "--max-length", 64),
            ),
            Start(
                {**FULL, "save_strategy": "steps", "save_steps": 8},
                ("--continue", "runs/case", "--run-name", "second"),
                data="second.jsonl",
                resume=True,
            ),
        ),
        second_file,
        r"(already|0 (new )?steps|\+\d+: \d+ -> \d+|past|nothing (left )?to train)",
    ),
    Case(
        "C03",
        "a save interval longer than the run",
        simple(texts(40)),
        (
            Start(
                {**FULL, "save_strategy": "steps", "save_steps": 500},
                from_model("--batch-size", 4, "--save-steps", 500, "--max-length", 64),
            ),
        ),
        saves_all,
        r"checkpoint-10",
    ),
    Case(
        "B07",
        "one long row, and little memory",
        make_long_row,
        (
            Start(
                {**FULL, "per_device_train_batch_size": 4, "max_steps": 6},
                from_model("--batch-size", 4, "--max-length", 8192, "--fresh"),
                data="short.jsonl",
                max_length=8192,
            ),
            Start(
                {**FULL, "per_device_train_batch_size": 4},
                from_model("--batch-size", 4, "--max-length", 8192, "--fresh"),
                max_length=8192,
                ulimit="-v +600",
            ),
        ),
        survives_memory,
        r"allocate memory|out of memory|memory[^\n]*(ran out|too little)|needs?[^\n]*memory",
    ),
    Case(
        "F02",
        "kill -9 during a save, then again",
        simple(texts(400), **LARGE),
        (
            Start(SIGNALS, from_model(*OURS_SIGNALS), act=kill_in_save(40)),
            Start(SIGNALS, from_model(*OURS_SIGNALS), resume=True),
        ),
        resumes(60),
        r"(starts from step|resum|step 1/60|no checkpoint)",
    ),
    Case(
        "F40",
        "a flipped bit in a checkpoint",
        simple(texts(400), **LARGE),
        (
            Start(SIGNALS, from_model(*OURS_SIGNALS), act=send_after(45, signal.SIGKILL)),
            Start(SIGNALS, from_model(*OURS_SIGNALS), resume=True, act=flip_bit),
        ),
        finds_damage,
        DAMAGED,
    ),
    Case(
        "F03",
        "SIGTERM",
        simple(texts(400), **LARGE),
        (Start(SIGNALS, from_model(*OURS_SIGNALS), act=send_after(10, signal.SIGTERM)),),
        stops_saved,
        r"SIGTERM|asked to stop|terminat",
    ),
    Case(
        "F04",
        "Ctrl+C",
        simple(texts(400), **LARGE),
        (Start(SIGNALS, from_model(*OURS_SIGNALS), act=send_after(10, signal.SIGINT)),),
        stops_saved,
        r"Ctrl\+C|SIGINT|KeyboardInterrupt|asked to stop",
    ),
    Case(
        "F09",
        "data that stops coming",
        make_pipe,
        (
            Start(
                {**FULL, "max_steps": 100},
                from_model("--batch-size", 4, "--max-length", 64, "--max-steps", 100),
                stream=True,
                act=feed_and_stop,
                limit_s=90,
            ),
        ),
        tells_waiting,
        WAITING,
    ),
    Case(
        "F35",
        "a file larger than the system allows",
        simple(texts(100), **LARGE),
        (
            Start(
                {**SIGNALS, "max_steps": 20, "save_steps": 10},
                from_model(
                    *("--batch-size", 4, "--max-steps", 20, "--save-steps", 10),
                    *("--max-length", 256),
                ),
                ulimit="-f 6000",
            ),
        ),
        keeps_older,
        r"file[^\n]*(too large|limit|size)",
    ),
)
