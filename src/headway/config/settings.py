"""Settings table: every flag, YAML key and Python argument with its default and help.

Each field of `Settings` is a flag, a key of the configuration file and an argument of
`headway.plan` and `headway.train`. None means that the plan decides, and gives a reason.
"""

import functools
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, get_args, get_type_hints

from headway.base.addresses import hide_credentials
from headway.config.optimizers import OPTIMIZERS
from headway.config.values import AUTO, FEW

ChosenBy = Literal["person", "planner"]


def _setting(
    default: Any = None,
    help: str = "",  # noqa: A002 - the usual name
    *,
    also: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    unit: Literal["", "bytes", "seconds", "or auto", "or few"] = "",
    name: str = "",
    short: str = "",
    takes: str = "",
) -> Any:
    """One row of the table."""
    metadata = dict(locals())
    metadata.pop("default")
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """The settings of a run. `batch_size` counts a whole optimizer step, over all processes."""

    # model and tokenizer
    model: str | None = _setting(
        None,
        "a transformers folder, a GGUF file, a Headway run, or owner/name on the Hugging Face Hub",
        short="m",
        takes="MODEL",
    )
    preset: str | None = _setting(
        None, "size of a new model, trained from scratch", choices=("tiny", "mini", "small", "base")
    )
    tokenizer: str | None = _setting(
        None, "tokenizer folder or tokenizer.json, for a new model", takes="PATH"
    )
    vocab_size: int | None = _setting(
        None, "vocabulary size of a tokenizer trained on the data", at_least=259
    )
    continue_run: str | None = _setting(
        None,
        "continue training the model of this run, at its global step",
        name="continue",
        takes="RUN",
    )
    reset_optimizer: bool = _setting(False, "with --continue: start with new optimizer moments")
    trust_remote_code: bool = _setting(False, "run Python code that comes with the model")

    # rows and batches
    max_length: int | None = _setting(
        None,
        "maximum tokens per row",
        also=("seq_len", "max_seq_length", "sequence_length", "block_size"),
        at_least=2,
    )
    batch_size: int | None = _setting(None, "rows per optimizer step", also=("bs",), at_least=1)
    batch_tokens: int | None = _setting(
        None,
        "tokens per optimizer step, instead of rows",
        also=("tokens_per_chunk",),
        at_least=2,
    )
    per_device_train_batch_size: int | None = _setting(
        None, "multiplied into batch_size", at_least=1
    )
    gradient_accumulation_steps: int | None = _setting(
        None, "multiplied into batch_size", also=("grad_accum",), at_least=1
    )
    micro_batch_tokens: int | None = _setting(
        None, "tokens per forward pass; affects memory, not results", at_least=16
    )
    assistant_only_loss: bool = _setting(
        True, "conversations: train only on the assistant's messages"
    )
    keep_empty_answers: bool = _setting(
        False, "train empty answers; by default, their conversations are rejected"
    )
    add_special_tokens: Literal["auto", "always", "never"] = _setting(
        "auto",
        "texts: add BOS (if the tokenizer does) and the end token; auto: unless a text has them",
        choices=("auto", "always", "never"),
    )
    truncation: Literal["cut", "reject"] = _setting(
        "cut", "what to do with conversations longer than max_length", choices=("cut", "reject")
    )
    preferred_only: bool = _setting(
        False, "preference data: train only the preferred answers, and count the others"
    )
    drop_duplicates: bool = _setting(False, "train only one of several identical records")
    survey_exact: int = _setting(
        64_000_000,
        "read sources up to this size completely before step 1; sample larger ones",
        at_least=0,
        unit="bytes",
    )
    skip_corrupt: bool = _setting(False, "skip damaged compressed files")
    endpoint_url: str | None = _setting(
        None, "URL of the S3-compatible store for s3:// addresses", takes="URL"
    )
    val_size: float = _setting(
        0,
        "held-out rows: a number, a fraction below 1, or few: up to 8 that cost no step",
        at_least=0,
        unit="or few",
    )
    replay: float = _setting(
        0, "rows of earlier runs to mix in, as a fraction of each step's own", at_least=0, at_most=1
    )
    max_rejected: float = _setting(
        0.05, "refuse the data if a larger fraction of rows is unusable", at_least=0, at_most=1
    )

    # length of the run
    num_train_epochs: float | None = _setting(
        None, "passes over the data", also=("epochs", "n_epochs"), above=0
    )
    max_steps: int | None = _setting(
        None, "maximum optimizer steps", also=("max_chunks", "steps"), at_least=1
    )
    max_tokens: int | None = _setting(None, "maximum trained tokens", at_least=1, unit="bytes")
    max_time: float | None = _setting(
        None, "save and stop after this time (exit code 75)", above=0, unit="seconds"
    )

    # optimization
    learning_rate: float | None = _setting(None, "peak learning rate", also=("lr",), above=0)
    learning_rate_multiplier: float | None = _setting(None, "multiplies the planned rate", above=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant", "wsd"] = _setting(
        "cosine",
        "learning rate after the warmup; wsd: constant, and linear to 0 in the last fifth",
        choices=("cosine", "linear", "constant", "wsd"),
    )
    warmup_steps: float | None = _setting(None, "warmup steps, or a fraction below 1", at_least=0)
    weight_decay: float = _setting(
        0.1, "weight decay of matrices; norms and biases have none", at_least=0
    )
    max_grad_norm: float = _setting(1.0, "maximum gradient norm (clipping)", above=0)
    optim: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "muon"] = _setting(
        "adamw",
        "optimizer; 8bit: moments in 8 bits; paged: moments that move to the host's memory when a "
        "GPU's is full; muon: for matrices of hidden layers, AdamW for all others",
        choices=tuple(OPTIMIZERS),
    )
    adam_beta1: float = _setting(0.9, "AdamW beta 1", at_least=0, at_most=0.9999)
    adam_beta2: float = _setting(0.95, "AdamW beta 2", at_least=0, at_most=0.99999)
    adam_epsilon: float = _setting(1e-8, "AdamW epsilon", above=0)
    lora: bool = _setting(False, "train low-rank adapters instead of the weights")
    load_in_4bit: bool = _setting(False, "QLoRA: adapters on weights in 4 bits (bitsandbytes)")
    lora_r: int = _setting(16, "LoRA rank", at_least=1, name="lora.r")
    lora_alpha: float = _setting(
        32,
        "LoRA scaling numerator: adapters are scaled by alpha / r",
        above=0,
        name="lora.lora_alpha",
    )
    lora_dropout: float = _setting(
        0.0, "LoRA dropout", at_least=0, at_most=0.99, name="lora.lora_dropout"
    )
    lora_target_modules: tuple[str, ...] = _setting(
        ("all-linear",), "modules that get adapters", name="lora.target_modules", takes="NAME"
    )
    seed: int = _setting(
        42, "random seed for weights, row order and dropout", at_least=0, at_most=2**63 - 1
    )

    # the machine
    device: str | None = _setting(None, "device to train on", choices=("cpu", "cuda", "mps"))
    bf16: bool | None = _setting(
        None, "compute in bfloat16; master weights, gradient sums and losses stay in fp32"
    )
    gradient_checkpointing: bool | None = _setting(
        None, "activation checkpointing: recompute layers in the backward pass, to save memory"
    )
    torch_compile: bool | None = _setting(None, "compile norms and loss; on a GPU whole layers")
    deterministic: bool = _setting(
        False, "on a GPU: only kernels that give the same bits each time; a CPU has no others"
    )
    nproc: int = _setting(
        1,
        "worker processes on this machine, which share each step; auto: the number that was "
        "fastest here",
        at_least=AUTO,
        at_most=1024,
        unit="or auto",
    )
    groups: int = _setting(1, "groups of workers: each has a leader that reports", at_least=1)
    reduction: str | None = _setting(
        None,
        "how gradients of several workers are added: along one tree, which gives the same bits "
        "for any number of workers; fast; or for a model sharded in each group (hsdp)",
        choices=("tree", "fast", "hsdp"),
    )
    threads: int | None = _setting(None, "CPU threads of each worker", at_least=1)

    # checkpoints, evaluation, logging
    save_steps: int | None = _setting(None, "checkpoint every N steps", at_least=1)
    save_minutes: float = _setting(10, "checkpoint at least every N minutes", above=0)
    save_total_limit: int = _setting(2, "checkpoints to keep, newest first", at_least=1)
    keep_every: int | None = _setting(None, "keep the checkpoint of every Nth step", at_least=1)
    eval_steps: int | None = _setting(None, "evaluate the held-out loss every N steps", at_least=1)
    sample_steps: int | None = _setting(None, "generate samples every N steps", at_least=1)
    sample_prompts: tuple[str, ...] = _setting((), "prompts of the samples")
    sample_tokens: int = _setting(64, "tokens per sample", at_least=1, at_most=4096)
    logging_steps: int | None = _setting(
        None, "without a terminal: log a line every N steps, and at least every 10 s", at_least=1
    )
    grace_s: float = _setting(10, "seconds allowed for saving when asked to stop", above=0)
    max_restarts: int = _setting(
        10, "restarts from the last checkpoint after a worker was killed; 0: none", at_least=0
    )
    on_stall: Literal["wait", "restart", "stop"] = _setting(
        "restart",
        "what to do when training is stuck: wait, restart from the last checkpoint, "
        "or save and stop",
        choices=("wait", "restart", "stop"),
    )

    # the run
    output_dir: str = _setting("runs", "folder for runs", short="o", takes="DIR")
    run_name: str | None = _setting(
        None, "name of the run; default: the first source's name", also=("name",), takes="NAME"
    )
    fresh: bool = _setting(False, "move an existing run folder aside and start over")
    exact: bool = _setting(False, "refuse instead of adjusting settings")
    test: bool = _setting(False, "two-minute trial run", also=("smoke_test",))

    origins: dict[str, str] = field(default_factory=dict[str, str], compare=False)
    # Taken over from the run that is continued (config/inherited.py), and who chose it there.
    inherited: dict[str, ChosenBy] = field(default_factory=dict[str, ChosenBy], compare=False)

    def origin(self, name: str) -> str:
        """Where a value comes from: a flag, file:line:column, 'you', or 'default'."""
        return self.origins.get(name, "default")

    def given(self, name: str) -> bool:
        """Whether the user set it."""
        return name in self.origins

    def items(self) -> list[tuple[str, object, str]]:
        """Every setting as it is shown and saved: name, value, origin; in the table's order.

        Addresses come without credentials.
        """
        return [(printed_name(row), self._shown(row), self.origin(row.name)) for row in table()]

    def _shown(self, row: Field[Any]) -> object:
        value = getattr(self, row.name)
        if row.metadata["unit"] == "or few" and value == FEW:
            return "few"
        return hide_credentials(value) if isinstance(value, str) else value


@dataclass(frozen=True)
class Given:
    """One setting as the user wrote it: name, value and origin."""

    name: str
    value: object  # text from a command line or file, or a value from Python
    origin: str  # "--lr", "run.yaml:3:1", "you", "run notes"
    chosen_by: ChosenBy | None = None  # of a setting of the run that is continued


def table() -> list[Field[Any]]:
    """Every field of `Settings` that can be set."""
    return [row for row in fields(Settings) if row.metadata]


# The first setting of each subject; those after it belong to the same one.
_SUBJECTS = {
    "model": "model and tokenizer",
    "max_length": "rows and batches",
    "assistant_only_loss": "data",
    "num_train_epochs": "length of the run",
    "learning_rate": "optimization",
    "lora": "adapters (LoRA)",
    "seed": "machine and random numbers",
    "save_steps": "checkpoints",
    "eval_steps": "evaluation and samples",
    "logging_steps": "the run and its folder",
}


def subjects() -> dict[str, list[Field[Any]]]:
    """The settings by subject, in the table's order."""
    found: dict[str, list[Field[Any]]] = {}
    subject = ""
    for row in table():
        subject = _SUBJECTS.get(row.name, subject)
        found.setdefault(subject, []).append(row)
    return found


def value_name(row: Field[Any]) -> str:
    """What a setting takes, as help shows it: N, TIME, cosine|linear; "" for a flag."""
    if is_flag(row):
        return ""
    if row.metadata["choices"]:
        return "|".join(row.metadata["choices"])
    if row.metadata["takes"]:
        return str(row.metadata["takes"])
    by_unit = {"bytes": "SIZE", "seconds": "TIME", "or auto": "N|auto", "or few": "X|few"}
    if row.metadata["unit"]:
        return by_unit[row.metadata["unit"]]
    numbers = {int: "N", float: "X"}
    kinds = {hints()[row.name], *get_args(hints()[row.name])}
    return next((name for kind, name in numbers.items() if kind in kinds), "TEXT")


def printed_name(row: Field[Any]) -> str:
    """The name in files and messages: `max_length`, `lora.r`."""
    return row.metadata["name"] or row.name


def spellings() -> dict[str, Field[Any]]:
    """Every accepted spelling, with underscores, and its row."""
    names: dict[str, Field[Any]] = {}
    for row in table():
        for name in (row.name, printed_name(row), *row.metadata["also"]):
            names[name] = row
    return names


def is_flag(row: Field[Any]) -> bool:
    """Whether the setting is on or off: a flag without a value turns it on."""
    return hints()[row.name] in (bool, bool | None)


def normalize(name: str) -> str:
    """Normalize a name: --max-length, max-length and max_length are the same."""
    return name.strip().lstrip("-").replace("-", "_").lower()


def example(row: Field[Any]) -> str:
    """A valid value for the setting."""
    if row.metadata["choices"]:
        return str(row.metadata["choices"][0])
    if row.name in _EXAMPLES:
        return _EXAMPLES[row.name]
    match row.default:
        case bool():
            return "true"
        case tuple():
            return ", ".join(row.default) or "text"
        case None:
            least = row.metadata["at_least"]
            return str(1 if least is None else least)
        case default:
            return str(default)


_EXAMPLES = {
    "endpoint_url": "http://127.0.0.1:9000",
    "keep_every": "1000",
    **dict.fromkeys(("batch_size", "per_device_train_batch_size"), "8"),
    "batch_tokens": "16384",
    **dict.fromkeys(("eval_steps", "max_steps", "sample_steps"), "100"),
    "logging_steps": "10",
    "micro_batch_tokens": "4096",
    "save_steps": "500",
    "threads": "4",
    "val_size": "0.05",
    "replay": "0.1",
    "vocab_size": "4096",
    "warmup_steps": "0.05",
    **dict.fromkeys(("bf16", "gradient_checkpointing", "torch_compile"), "true"),
    "continue_run": "runs/notes",
    "learning_rate": "2e-4",
    "learning_rate_multiplier": "2",
    "max_length": "128",
    "max_time": "10m",
    "max_tokens": "1000000",
    "model": "DIR",
    "run_name": "notes",
    "tokenizer": "DIR",
}


@functools.cache
def hints() -> dict[str, Any]:
    """The type of each setting, by field name."""
    return get_type_hints(Settings)
