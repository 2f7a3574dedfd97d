"""What a person asks for.

One table: each field of `Settings` is a flag, a key of the configuration file and an argument of
`headway.plan` and `headway.train`. None means "decide for me", which the plan does, with a reason.
"""

import functools
from dataclasses import Field, dataclass, field, fields
from typing import Any, Literal, get_type_hints


def _setting(
    default: Any = None,
    help: str = "",  # noqa: A002 - the field's word
    *,
    also: tuple[str, ...] = (),
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    unit: Literal["", "bytes", "seconds"] = "",
    name: str = "",
) -> Any:
    """One row of the table."""
    metadata = dict(locals())
    metadata.pop("default")
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What was asked for, each value checked by itself; what does not fit together is refused too.

    `batch_size` is the whole optimizer step, all processes together.
    """

    # what to train, on what
    model: str | None = _setting(
        None, "a folder with a transformers model, a run of Headway, or a hub's owner/name"
    )
    preset: str | None = _setting(
        None, "a model from nothing", choices=("tiny", "mini", "small", "base")
    )
    tokenizer: str | None = _setting(None, "a folder or tokenizer.json, for a model from nothing")
    vocab_size: int | None = _setting(None, "of a tokenizer trained on the data", at_least=259)
    continue_run: str | None = _setting(
        None, "train this data into that run's model; its global step goes on", name="continue"
    )
    reset_optimizer: bool = _setting(False, "with --continue: fresh optimizer moments")
    trust_remote_code: bool = _setting(False, "run code that comes with a model folder")

    # rows and batches
    max_length: int | None = _setting(
        None,
        "tokens of the longest row",
        also=("seq_len", "max_seq_length", "sequence_length", "block_size"),
        at_least=2,
    )
    batch_size: int | None = _setting(None, "rows of one optimizer step", also=("bs",), at_least=1)
    batch_tokens: int | None = _setting(
        None,
        "tokens of one optimizer step, instead of rows",
        also=("tokens_per_chunk",),
        at_least=2,
    )
    per_device_train_batch_size: int | None = _setting(
        None, "multiplied out into batch_size", at_least=1
    )
    gradient_accumulation_steps: int | None = _setting(
        None, "multiplied out into batch_size", also=("grad_accum",), at_least=1
    )
    micro_batch_tokens: int | None = _setting(
        None, "tokens that run through the model at once; changes memory, not results", at_least=16
    )
    assistant_only_loss: bool = _setting(True, "conversations: train on the answers alone")
    truncation: Literal["cut", "reject"] = _setting(
        "cut", "conversations longer than max_length", choices=("cut", "reject")
    )
    drop_duplicates: bool = _setting(False, "train each of several identical records once")
    survey_exact: int = _setting(
        64_000_000,
        "sources up to this size are read whole before step 1; larger ones are sampled",
        at_least=0,
        unit="bytes",
    )
    skip_corrupt: bool = _setting(False, "pass over compressed files that are damaged")
    endpoint_url: str | None = _setting(None, "the S3-compatible store that s3:// means")
    val_size: float = _setting(0, "rows held out: a number, or a share below 1", at_least=0)
    max_rejected: float = _setting(
        0.05, "share of unusable rows above which the data is refused", at_least=0, at_most=1
    )

    # how long
    num_train_epochs: float | None = _setting(
        None, "times through the data", also=("epochs",), above=0
    )
    max_steps: int | None = _setting(
        None, "optimizer steps of this job", also=("max_chunks", "steps"), at_least=1
    )
    max_tokens: int | None = _setting(None, "trained tokens of this job", at_least=1, unit="bytes")
    max_time: float | None = _setting(
        None, "save and stop after this long (exit 75)", above=0, unit="seconds"
    )

    # learning
    learning_rate: float | None = _setting(None, "the peak", also=("lr",), above=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant"] = _setting(
        "cosine", "the way down from the peak", choices=("cosine", "linear", "constant")
    )
    warmup_steps: float | None = _setting(None, "steps, or a share below 1", at_least=0)
    weight_decay: float = _setting(0.1, "on matrices, not on norms and biases", at_least=0)
    max_grad_norm: float = _setting(1.0, "gradients are scaled down to this norm", above=0)
    optim: Literal["adamw"] = _setting("adamw", "the optimizer", choices=("adamw",))
    adam_beta1: float = _setting(0.9, "AdamW", at_least=0, at_most=0.9999)
    adam_beta2: float = _setting(0.95, "AdamW", at_least=0, at_most=0.99999)
    adam_epsilon: float = _setting(1e-8, "AdamW", above=0)
    lora: bool = _setting(False, "train low-rank adapters, not the weights")
    lora_r: int = _setting(16, "rank", at_least=1, name="lora.r")
    lora_alpha: float = _setting(32, "scale", above=0, name="lora.lora_alpha")
    lora_dropout: float = _setting(
        0.0, "dropout", at_least=0, at_most=0.99, name="lora.lora_dropout"
    )
    lora_target_modules: tuple[str, ...] = _setting(
        ("all-linear",), "names of modules", name="lora.target_modules"
    )
    seed: int = _setting(
        42, "of the weights, the order and every other draw", at_least=0, at_most=2**63 - 1
    )

    # the machine
    device: str | None = _setting(None, "where to compute", choices=("cpu", "cuda", "mps"))
    bf16: bool | None = _setting(None, "compute in bfloat16; weights, sums and losses stay in fp32")
    gradient_checkpointing: bool | None = _setting(None, "less memory, more time")
    torch_compile: bool | None = _setting(None, "compile what lies between matrix products")
    threads: int | None = _setting(None, "threads of the trainer", at_least=1)

    # saving, looking
    save_steps: int | None = _setting(None, "a checkpoint every so many steps", at_least=1)
    save_minutes: float = _setting(10, "and at least this often", above=0)
    save_total_limit: int = _setting(2, "newest checkpoints kept", at_least=1)
    keep_every: int | None = _setting(
        None, "keep the checkpoints of these steps for good", at_least=1
    )
    eval_steps: int | None = _setting(None, "held-out loss every so many steps", at_least=1)
    sample_steps: int | None = _setting(None, "text from the model every so many steps", at_least=1)
    sample_prompts: tuple[str, ...] = _setting((), "what the samples begin with")
    sample_tokens: int = _setting(64, "tokens of a sample", at_least=1, at_most=4096)
    logging_steps: int | None = _setting(
        None, "off a terminal: a line every so many steps (at least one every 10 s)", at_least=1
    )
    grace_s: float = _setting(10, "seconds to save in when asked to stop", above=0)

    # the run
    output_dir: str = _setting("runs", "where run folders are made")
    run_name: str | None = _setting(None, "instead of the first source's stem", also=("name",))
    fresh: bool = _setting(False, "move the old run folder aside and start over")
    exact: bool = _setting(False, "refuse where the plan would adjust")
    test: bool = _setting(False, "a two-minute trial of the same path", also=("smoke_test",))

    origins: dict[str, str] = field(default_factory=dict[str, str], compare=False)

    def origin(self, name: str) -> str:
        """Where a value came from: a flag, file:line:column, 'you', or 'default'."""
        return self.origins.get(name, "default")

    def given(self, name: str) -> bool:
        """Whether a person said it."""
        return name in self.origins

    def items(self) -> list[tuple[str, object, str]]:
        """Every setting as (name, value, origin), in the table's order."""
        return [
            (printed_name(row), getattr(self, row.name), self.origin(row.name)) for row in table()
        ]


@dataclass(frozen=True)
class Given:
    """One setting as somebody wrote it: its name and value in their spelling, and where."""

    name: str
    value: object  # text from a command line or file, or already a value from Python or YAML
    origin: str  # "--lr", "run.yaml:3:1", "you"


def table() -> list[Field[Any]]:
    """The rows: every field of `Settings` that a person can set."""
    return [row for row in fields(Settings) if row.metadata]


def printed_name(row: Field[Any]) -> str:
    """The name as people read and write it: `max_length`, `lora.r`."""
    return row.metadata["name"] or row.name


def spellings() -> dict[str, Field[Any]]:
    """Every accepted spelling, with underscores, and the row it means."""
    names: dict[str, Field[Any]] = {}
    for row in table():
        for name in (row.name, printed_name(row), *row.metadata["also"]):
            names[name] = row
    return names


def is_flag(row: Field[Any]) -> bool:
    """Whether the setting is on or off, so that naming it turns it on."""
    return hints()[row.name] in (bool, bool | None)


def normal(name: str) -> str:
    """--max-length, max-length and max_length are one name."""
    return name.strip().lstrip("-").replace("-", "_").lower()


def example(row: Field[Any]) -> str:
    """A value that the setting takes."""
    if row.metadata["choices"]:
        return str(row.metadata["choices"][0])
    match row.default:
        case bool():
            return "true"
        case tuple():
            return ", ".join(row.default) or "text"
        case None:
            least = row.metadata["at_least"]
            return _EXAMPLES.get(row.name, str(1 if least is None else least))
        case default:
            return str(default)


_EXAMPLES = {
    "endpoint_url": "http://127.0.0.1:9000",
    "keep_every": "1000",
    "batch_size": "8",
    "bf16": "true",
    "gradient_checkpointing": "true",
    "continue_run": "runs/notes",
    "learning_rate": "2e-4",
    "max_length": "128",
    "max_steps": "100",
    "max_time": "10m",
    "max_tokens": "1000000",
    "model": "DIR",
    "run_name": "notes",
    "tokenizer": "DIR",
    "torch_compile": "true",
}


@functools.cache
def hints() -> dict[str, Any]:
    """The kind of each setting, by its field's name."""
    return get_type_hints(Settings)
