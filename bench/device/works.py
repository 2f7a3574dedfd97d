"""The rows of `gpu.py`: their data and models, what is typed, and what is read from it."""

import importlib.util
import json
import math
import random
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from device.rows import Left, NotAvailable, Row
from device.table import FIRST, MEMORY, MFU, RATE
from inputs import copy_sources, manual_words
from trials import HEADWAY, HERE, PEERS, Steps, headway, peer, rate, run

from headway.config.settings import Settings
from headway.model.sizes import flops_per_token, shape_of

PROFILE = HERE / "device" / "profile_step.py"
Shape = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How large everything is: on a GPU, or in a dry run."""

    device: str
    shapes: Mapping[str, Shape]
    chats: int
    batch: int  # conversations of a step
    words: tuple[float, float]  # of a conversation: median, and sigma of its logarithm
    longest: int  # tokens
    prompt_words: int
    text_bytes: int
    text_batch: int  # rows of a step
    vocab: int  # of the tokenizer
    steps: int
    warm: int  # steps that are not timed


def _shape(kind: str, hidden: int, layers: int, heads: int, kv: int, mlp: int, v: int) -> Shape:
    return {
        "model_type": kind,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "intermediate_size": mlp,
        "vocab_size": v,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": True,
    }


FULL = Size(
    device="cuda",
    shapes={
        "0.5B": _shape("qwen2", 896, 24, 14, 2, 4864, 151_936),
        "1B": _shape("llama", 2048, 16, 32, 8, 8192, 128_256),
        "8B": _shape("llama", 4096, 32, 32, 8, 14_336, 128_256) | {"tie_word_embeddings": False},
    },
    chats=4_000,
    batch=64,
    words=(130, 0.75),
    longest=2048,
    prompt_words=1_150,
    text_bytes=6_000_000,
    text_batch=32,
    vocab=8192,
    steps=12,
    warm=3,
)
_TINY = _shape("llama", 32, 2, 2, 1, 64, 512)
DRY = Size(
    device="cpu",
    shapes={"0.5B": _TINY, "1B": _TINY, "8B": _TINY},
    chats=40,
    batch=8,
    words=(8, 0.3),
    longest=256,
    prompt_words=8,
    text_bytes=60_000,
    text_batch=4,
    vocab=400,
    steps=3,
    warm=1,
)


def rows_of(folder: Path, *, dry: bool, all_rows: bool = False) -> list[Row]:
    """All rows, the most telling first; a dry run leaves out what runs the same code again.

    Args:
        folder: for data and models.
        dry: on the CPU, tiny.
        all_rows: leave nothing out of a dry run.
    """
    works = Works(folder / "works", DRY if dry else FULL)
    rows = [
        Row("checks", 80, works.checks),
        Row("products", 10, works.products),
        Row("chats data", 30, works.chats_data),
        Row("chats headway", 35, lambda place, left: works.ours("chats", place, left)),
        Row("chats trl", 35, lambda place, left: works.trl("chats", place, left)),
        Row("chats trainer", 30, works.trainer),
        Row("text data", 35, works.text_data),
        Row("text headway", 30, works.text),
        Row("profile", 25, works.profile),
        Row("prompted data", 20, works.prompted_data),
        Row("prompted headway", 25, lambda place, left: works.ours("prompted", place, left)),
        Row("prompted trl", 30, lambda place, left: works.trl("prompted", place, left)),
        Row("lora", 20, works.lora),
        Row("demo", 25, works.demo),
        Row("qlora headway", 90, works.qlora),
        Row("qlora trl", 50, works.qlora_trl),
    ]
    again = {"prompted data", "prompted headway", "prompted trl", "text data", "text headway"}
    return [row for row in rows if not dry or all_rows or row.name not in again]


class Works:
    """What the rows do.

    Args:
        folder: for data and models, which several rows use.
        size: of everything.
    """

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder, self.size = folder, size
        self.peak_flops: float | None = None

    # -- is it right -------------------------------------------------------------------------

    def checks(self, place: Path, left: Left) -> dict[str, float]:
        """The tests that are marked `cuda`."""
        report = place / "checks.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-n", "0"]
        command = [word for word in command if _has_xdist() or word not in ("-n", "0")]
        command += ["-m", "cuda", "tests/cuda", f"--junitxml={report}"]
        run(command, HERE.parent, place / "cache", limit_s=left())
        suite = report.read_text().partition("<testsuite ")[2].partition(">")[0]
        told = dict(part.split("=") for part in suite.split() if "=" in part)
        return {name: float(told[name].strip('"')) for name in ("tests", "skipped")}

    def products(self, place: Path, left: Left) -> dict[str, float]:
        """The most that bf16 matrix products reach."""
        command = [sys.executable, str(PEERS / "matmul.py"), "dry" if self.size is DRY else "cuda"]
        told = json.loads(run(command, place, place / "cache", limit_s=left()))
        self.peak_flops = told["flops"]
        return {"bf16 TFLOP/s": told["flops"] / 1e12}

    # -- whole runs --------------------------------------------------------------------------

    def demo(self, place: Path, left: Left) -> dict[str, float]:
        """A new model of Python's sources, as `headway demo --from-scratch` trains it."""
        words = ["demo", "--from-scratch", "--no-chat", "--device", self.size.device]
        if self.size is DRY:
            words += ["--preset", "tiny", "--max-steps", "2", "--vocab-size", "300"]
            words += ["--sample-steps", "2", "--sample-tokens", "4", "--val-size", "2"]
        run([HEADWAY, *words], place, place / "cache", limit_s=left())
        (receipt,) = place.glob("runs/*/receipt.json")
        return _receipt_figures(json.loads(receipt.read_text()))

    def lora(self, place: Path, left: Left) -> dict[str, float]:
        """Adapters on the 0.5B model, and the receipt checked against the files."""
        work = self._work("chats")
        words = [*self._words("chats"), "--lora"]
        figures = _figures(headway(words, work, place, limit_s=left()), place, self.size.warm)
        command = [HEADWAY, "verify", str(place / "bench")]
        run(command, place, place / "cache", limit_s=left())
        return figures

    def qlora(self, place: Path, left: Left) -> dict[str, float]:
        """4-bit adapters on the 8B model."""
        if "load_in_4bit" not in {one.name for one in fields(Settings)}:
            raise NotAvailable("this version of Headway has no --load-in-4bit")
        self._needs_bitsandbytes()
        if not (self.folder / "large" / "plan.json").exists():
            self._chats("large", "8B", self._conversations(0), left)
        words = [*self._words("large"), "--lora", "--load-in-4bit"]
        told = headway(words, self.folder / "large", place, limit_s=left())
        return _figures(told, place, self.size.warm)

    def qlora_trl(self, place: Path, left: Left) -> dict[str, float]:
        """The same with TRL and bitsandbytes."""
        self._needs_bitsandbytes()
        return self.trl("large", place, left, "--in-4bit")

    def _needs_bitsandbytes(self) -> None:
        if self.size.device != "cuda" or importlib.util.find_spec("bitsandbytes") is None:
            raise NotAvailable("bitsandbytes on a GPU is needed, and not here")

    # -- how fast ----------------------------------------------------------------------------

    def chats_data(self, place: Path, left: Left) -> dict[str, float]:
        """Conversations of 250 tokens on average, and a model of 0.5B with new weights."""
        del place
        return self._chats("chats", "0.5B", self._conversations(0), left)

    def prompted_data(self, place: Path, left: Left) -> dict[str, float]:
        """The same conversations behind one system prompt, for the same model."""
        del place
        self._work("chats")
        conversations = self._conversations(self.size.prompt_words)
        return self._chats("prompted", "0.5B", conversations, left)

    def text_data(self, place: Path, left: Left) -> dict[str, float]:
        """Python's sources, and a model of 1B with new weights."""
        del place
        (self.folder / "text").mkdir(parents=True)
        copy_sources(self.folder / "text" / "data", self.size.text_bytes)
        return self._prepare("text", "1B", "data", left)

    def ours(self, name: str, place: Path, left: Left) -> dict[str, float]:
        """Headway on a work."""
        told = headway(self._words(name), self._work(name), place, limit_s=left())
        return _figures(told, place, self.size.warm)

    def text(self, place: Path, left: Left) -> dict[str, float]:
        """Headway on text of 2,048 tokens, as a share of what products alone reach."""
        figures, work = self.ours("text", place, left), self._work("text")
        plan = json.loads((work / "plan.json").read_text())
        shape, length = shape_of(plan["model"]["config"]), plan["data"]["max_length"]
        if self.peak_flops:
            flops = flops_per_token(shape, length) * figures["tokens/s"]
            figures[MFU] = flops / self.peak_flops
        return figures

    def trl(self, name: str, place: Path, left: Left, *more: str) -> dict[str, float]:
        """TRL, packed, with the fastest attention that is installed here."""
        work = self._work(name)
        plan = json.loads((work / "plan.json").read_text())
        tokens = plan["data"]["tokens"] / plan["data"]["records"]["accepted"] * self.size.batch
        rows = max(1, math.ceil(tokens / plan["data"]["max_length"]))  # as many tokens a step
        fast = self.size.device == "cuda" and importlib.util.find_spec("flash_attn")
        words = ["--steps", str(self.size.steps), "--batch", str(rows), *more]
        words += ["--attention", "flash_attention_2" if fast else "sdpa"]
        return self._peer("trl_sft.py", words, work, place, left)

    def trainer(self, place: Path, left: Left) -> dict[str, float]:
        """Trainer in bf16, padded to the longest of a batch."""
        words = ["--steps", str(self.size.steps), "--batch", str(self.size.batch), "--bf16"]
        return self._peer("trainer.py", words, self._work("chats"), place, left)

    def profile(self, place: Path, left: Left) -> dict[str, float]:
        """Where the time of one step goes: operators by their time, as text."""
        name = "chats" if self.size is DRY else "text"
        result = place / "operators.txt"
        words = [*self._words(name), "--max-steps", "1"]
        headway(words, self._work(name), place, limit_s=left())
        command = [sys.executable, str(PROFILE), str(place / "bench"), str(result)]
        return json.loads(run(command, place, place / "cache", limit_s=left()))

    def _peer(
        self, script: str, words: list[str], work: Path, place: Path, left: Left
    ) -> dict[str, float]:
        started, steps = peer(script, words, work, place, limit_s=left())
        figures = _speed(started, steps, self.size.warm)
        return figures | {MEMORY: steps.peak_bytes / 1e9}

    # -- data and models ---------------------------------------------------------------------

    def _words(self, name: str) -> list[str]:
        """What is typed after `headway train` or `plan`."""
        size = self.size
        batch, data = (size.text_batch, "data") if name == "text" else (size.batch, "chats.jsonl")
        return [
            *(data, "--model", "model", "--device", size.device, "--warmup-steps", "2"),
            *("--max-length", str(size.longest), "--batch-size", str(batch)),
            *("--max-steps", str(size.steps), "--save-steps", str(size.steps)),
        ]

    def _work(self, name: str) -> Path:
        """The folder of a work that is ready."""
        if not (self.folder / name / "rows.jsonl").exists():
            raise NotAvailable(f"the row before it, {name} data, did not end well")
        return self.folder / name

    def _conversations(self, prompt_words: int) -> str:
        draw, words = random.Random(0), manual_words()
        system = " ".join(next(words) for _ in range(prompt_words))
        median, sigma = self.size.words
        # Words of a manual are 1.2 tokens; question and answer are equally long.
        most = (self.size.longest - 1.4 * prompt_words) / 2.6
        lines: list[str] = []
        for _ in range(self.size.chats):
            num = min(draw.lognormvariate(math.log(median), sigma), most)
            turns = [
                {"role": role, "content": " ".join(next(words) for _ in range(int(num / 2) + 1))}
                for role in ("user", "assistant")
            ]
            first = [{"role": "system", "content": system}] if system else []
            lines.append(json.dumps({"messages": first + turns}) + "\n")
        return "".join(lines)

    def _chats(self, name: str, shape: str, lines: str, left: Left) -> dict[str, float]:
        folder = self.folder / name
        folder.mkdir(parents=True)
        (folder / "chats.jsonl").write_text(lines)
        return self._prepare(name, shape, "chats.jsonl", left)

    def _prepare(self, name: str, shape: str, data: str, left: Left) -> dict[str, float]:
        """A tokenizer learned from the data, a model for it, its plan, and rows for the peers."""
        folder, cache = self.folder / name, self.folder / "cache"
        cache.mkdir(exist_ok=True)

        def do(*command: str) -> str:
            return run(command, folder, cache, limit_s=left())

        words = ["--preset", "tiny", "--vocab-size", str(self.size.vocab)]
        learned = json.loads(do(HEADWAY, "plan", data, *words, "--json"))
        (folder / "tokenizer").mkdir()
        for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            if (source := Path(learned["data"]["store"], file)).exists():
                shutil.copy(source, folder / "tokenizer")
        config = json.dumps(self.size.shapes[shape])
        do(sys.executable, str(PEERS / "random_model.py"), "tokenizer", "model", config)
        (folder / "plan.json").write_text(do(HEADWAY, "plan", *self._words(name), "--json"))
        kind = "text" if name == "text" else "chats"
        do(sys.executable, str(PEERS / "tokenise.py"), str(folder), kind, data)
        plan = json.loads((folder / "plan.json").read_text())
        return {"parameters, M": plan["model"]["parameters"] / 1e6}


def _has_xdist() -> bool:
    return importlib.util.find_spec("xdist") is not None


def _speed(started: float, steps: Steps, warm: int) -> dict[str, float]:
    return {
        RATE: rate(steps, steps.trained, warm),
        "tokens/s": rate(steps, steps.positions, warm),
        FIRST: steps.ends[0] - started,
        "last loss": steps.losses[-1],
    }


def _figures(told: tuple[float, Steps], place: Path, warm: int) -> dict[str, float]:
    """Of a run of Headway's whose contract was kept."""
    receipt = json.loads((place / "bench" / "receipt.json").read_text())
    return _speed(*told, warm) | _receipt_figures(receipt)


def _receipt_figures(receipt: Mapping[str, Any]) -> dict[str, float]:
    if receipt["contract"]["verdict"] != "kept":
        raise ValueError(receipt["line"])
    return {MEMORY: receipt["plan_against_actual"]["peak_memory"]["actual"] / 1e9}
