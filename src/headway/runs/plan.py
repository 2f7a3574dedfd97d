"""What was decided before anything runs: the only thing that training takes.

`decide.py` makes a Plan; `plan.json` keeps it; the trainer reads it and measures nothing again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from headway.base.errors import DataRefused, Finding, Remedy
from headway.base.files import write_whole
from headway.base.versioned_json import read
from headway.data.formats.records import DataKind
from headway.data.survey.result import Lengths, SurveySample

SCHEMA = "headway.plan/2"
TIGHT = 0.6  # of the free memory: who foretells more than that tries it out first


@dataclass(frozen=True)
class Choice:
    """One setting as it was decided, and why."""

    name: str
    value: Any
    origin: str  # "--lr", "run.yaml:3:1", "you", "default", "auto"
    reason: str = ""


@dataclass(frozen=True)
class RecordLedger:
    """Documents or conversations: read = accepted + rejected."""

    read: int
    rejected: dict[str, int]  # by reason
    accepted: int


@dataclass(frozen=True)
class RowLedger:
    """Rows: accepted = held_out + planned + not_planned; planned ones are trained `times`."""

    accepted: int
    held_out: int
    planned: int  # different rows
    not_planned: int
    applications: int  # planned rows, each counted as often as it is to be trained
    row_sum: int  # sum of hash64(row, epoch) over these, modulo 2**64


@dataclass(frozen=True)
class StreamPlan:
    """How data is read that is too large to be read first; its counts are about right."""

    folder: str  # of flow.json, and of windows that are made ahead of their use
    steps_per_window: int
    sampled: SurveySample  # what the counts were foretold from


@dataclass(frozen=True)
class DataPlan:
    """What is trained on, in what pieces."""

    kind: DataKind
    sources: tuple[str, ...]
    store: str  # the folder with the tokenised examples
    fingerprint: str
    tokenizer: str
    tokenizer_from: str
    template: str
    records: RecordLedger
    rows: RowLedger
    bytes: int
    tokens: int
    trained_tokens: int
    lengths: Lengths
    max_length: int
    truncated: int  # conversations cut to max_length
    padding_to_max: float  # share of the work if each row were padded to max_length
    padding_to_longest: float  # ... to the longest of its batch
    padding: float  # share with our packing
    untrained: float  # share of tokens that are looked at but not learned
    marked_example: str
    duplicates: int = 0  # records that say what an earlier one said
    shapes: tuple[str, ...] = ()  # what rows were taken for: "text", "ShareGPT", ...
    notes: dict[str, int] = field(default_factory=dict[str, int])  # of accepted examples, how often
    contents: dict[str, str] = field(default_factory=dict[str, str])  # sha256 by source
    stream: StreamPlan | None = None  # None: all of it was read before step 1
    shared: float = 0.0  # share of input tokens in beginnings that another row of its step has too
    not_shared: str = ""  # why these run for each row all the same


@dataclass(frozen=True)
class LoraPlan:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class Parent:
    """The run whose model this job goes on from."""

    run: str
    checkpoint: str  # folder
    global_step: int
    manifest_sha256: str
    keeps_optimizer: bool  # whether its moments are taken over


@dataclass(frozen=True)
class ModelPlan:
    """The weights to start from."""

    source: Literal["preset", "folder", "run"]
    name: str  # the preset's name or the folder
    path: str  # "" for a preset
    config: dict[str, Any]  # transformers' config.json, as plain values
    vocab_size: int
    context: int  # longest sequence it can take, in tokens
    weights_sha256: str  # over the folder's weight files, "" for a preset
    parameters: int
    trainable: int
    trust_remote_code: bool
    lora: LoraPlan | None
    parent: Parent | None
    commit: str = ""  # on the hub, of a model that was fetched


@dataclass(frozen=True)
class StepsPlan:
    """How many optimizer steps, of how many rows."""

    first: int  # global step before the job
    num: int
    per_epoch: int
    epochs: float
    batch_size: int  # rows of a step
    last_batch: int  # rows of the last step of an epoch
    tokens: int  # input tokens of a full step, about
    leaves: int
    micro_batch_tokens: int
    share_prefixes: bool = False  # what several rows of a step begin with runs once

    @property
    def last(self) -> int:
        """The global step after the job."""
        return self.first + self.num


@dataclass(frozen=True)
class LearningPlan:
    """The optimizer and its learning rate."""

    optim: str
    peak: float
    schedule: Literal["cosine", "linear", "constant"]
    warmup_steps: int
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float


@dataclass(frozen=True)
class SavesPlan:
    """When checkpoints are written, and what they cost."""

    every_steps: int
    every_minutes: float
    keep: int
    num: int  # by steps alone
    bytes_each: int
    keep_every: int | None = None  # those of every so many steps are kept for good

    def most(self, steps: int, *, evaluated: bool) -> int:
        """How many checkpoints are there at one time, the one being written counted.

        Args:
            steps: of the job.
            evaluated: held-out losses are looked at on the way, so that the best one is kept.
        """
        for_good = steps // self.keep_every if self.keep_every else 0
        return min(self.num, self.keep + evaluated + for_good) + 1


@dataclass(frozen=True)
class EvaluationPlan:
    """Probe rows, evaluations and samples."""

    probe_rows: int
    eval_steps: int  # 0: only before and after
    sample_steps: int  # 0: never
    sample_prompts: tuple[str, ...]
    sample_tokens: int


@dataclass(frozen=True)
class MemoryPlan:
    """Peak memory of the trainer, in bytes, part by part."""

    process: int  # interpreter and libraries
    weights: int
    gradients: int  # the tree's sums included
    optimizer: int
    activations: int
    peak: int
    snapshot: int = 0  # the copy of weights and moments that is written beside the loop
    free: int = 0  # when it was planned; 0: not known

    @property
    def tight(self) -> bool:
        """Whether the largest micro-batch is to be tried out before step 1."""
        return bool(self.free) and self.peak > TIGHT * self.free


@dataclass(frozen=True)
class WorkSaved:
    """What is not computed, each as a share of the work that there would be with it."""

    padding: float = 0.0  # of rows padded to max_length
    untrained: float = 0.0  # logits of tokens that are only looked at
    shared: float = 0.0  # beginnings that another row of the step has too


@dataclass(frozen=True)
class TimePlan:
    """How long it will take, in seconds, as far as it is known before step 1."""

    tokens_per_second: float | None  # None: this machine has not trained this shape yet
    seconds: float | None
    flops: float  # of the whole job
    saved: WorkSaved = WorkSaved()


@dataclass(frozen=True)
class MachinePlan:
    """Where and how it computes."""

    device: str
    why: str
    threads: int
    workers: int
    compute_dtype: Literal["float32", "bfloat16"]
    gradient_checkpointing: bool
    cpu: str
    allocator: str = ""  # of memory
    compiled: bool = False  # what lies between matrix products, if that holds what it promises


@dataclass(frozen=True)
class Plan:
    """Everything that was decided. A plan with nothing to do cannot be built.

    Raises:
        DataRefused: no steps, or no rows.
    """

    schema: str
    version: str
    name: str  # of the run, before a number is added
    identity: str  # sha256 over what makes two plans the same plan
    data: DataPlan
    model: ModelPlan
    steps: StepsPlan
    learning: LearningPlan
    saves: SavesPlan
    evaluation: EvaluationPlan
    memory: MemoryPlan
    time: TimePlan
    machine: MachinePlan
    seed: int
    max_time_s: float | None
    grace_s: float
    settings: tuple[Choice, ...]
    findings: tuple[Finding, ...]

    def __post_init__(self) -> None:
        if self.steps.num < 1 or self.data.rows.planned < 1:
            raise DataRefused(
                "there is nothing to train",
                have=f"{self.data.rows.accepted} rows, {self.steps.num} steps",
                need="at least one row and one step",
                remedies=(Remedy("more data"),),
            )

    @property
    def computed_tokens(self) -> int:
        """Input tokens of a full step that run, about."""
        return computed_tokens(self.steps, self.data)

    def choice(self, name: str) -> Choice:
        """A setting as it was decided.

        Raises:
            KeyError: there is no such setting.
        """
        for choice in self.settings:
            if choice.name == name:
                return choice
        raise KeyError(name)

    def to_json(self) -> bytes:
        """The plan as plan.json has it."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def save(self, folder: Path) -> None:
        """Write plan.json into a run's folder."""
        write_whole(folder / "plan.json", self.to_json())


def identity(
    data: DataPlan,
    model: ModelPlan,
    steps: StepsPlan,
    learning: LearningPlan,
    saves: SavesPlan,
    evaluation: EvaluationPlan,
    *,
    seed: int,
    bf16: bool | None,
    assistant_only_loss: bool,
    reset_optimizer: bool,
    truncation: str,
) -> str:
    """What makes two plans the same: everything that changes weights, saves or evaluations.

    What the machine decides (memory, threads, micro-batches) is left out, so that a run can
    continue elsewhere; its plan.json keeps what was decided at its first start.
    """
    weights: Mapping[str, Any] = {
        "source": model.source,
        "config": model.config if model.source == "preset" else {},
        "sha256": model.weights_sha256,
        "lora": model.lora,
        "parent": model.parent.manifest_sha256 if model.parent else "",
        "fresh_moments": reset_optimizer,
    }
    same = {
        "data": [data.fingerprint, data.tokenizer, data.template, data.max_length],
        "rows": [data.rows, assistant_only_loss],
        **({"flow": [data.stream.steps_per_window, truncation]} if data.stream else {}),
        "model": weights,
        "steps": [steps.num, steps.batch_size, steps.leaves],
        "learning": [learning, bf16],
        "saves": [saves.every_steps, saves.every_minutes, saves.keep, saves.keep_every],
        "looks": evaluation,
        "seed": seed,
    }
    return hashlib.sha256(msgspec.json.encode(same, order="sorted")).hexdigest()


def identity_of(plan: Plan) -> str:
    """The plan's identity, computed from its contents."""
    bf16 = plan.choice("bf16")
    return identity(
        plan.data,
        plan.model,
        plan.steps,
        plan.learning,
        plan.saves,
        plan.evaluation,
        seed=plan.seed,
        bf16=bf16.value if bf16.origin != "auto" else None,
        assistant_only_loss=plan.choice("assistant_only_loss").value,
        reset_optimizer=plan.choice("reset_optimizer").value,
        truncation=plan.choice("truncation").value,
    )


def computed_tokens(steps: StepsPlan, data: DataPlan) -> int:
    """Input tokens of a full step that run, about: what several rows begin with counts once."""
    return round(steps.tokens * (1 - data.shared)) if steps.share_prefixes else steps.tokens


def load_plan(folder: Path) -> Plan:
    """Read plan.json.

    Raises:
        OSError: there is none.
        msgspec.MsgspecError: it is not a plan.
        UsageError: a newer Headway wrote it.
    """
    return read(folder / "plan.json", Plan, SCHEMA, {"headway.plan/1": _from_version_1})


def _from_version_1(plan: dict[str, Any]) -> dict[str, Any]:
    """Rename what version 2 renamed; the results of trials are in settled.json now."""
    data = dict(plan["data"])
    data["stream"] = data.pop("flow", None)
    rest = {name: value for name, value in plan.items() if name not in {"looks", "tried"}}
    return rest | {"data": data, "evaluation": plan["looks"]}


def name_after(source: str, *, trial: bool) -> str:
    """A run is called after its first source: the stem, in letters that suit a folder's name."""
    stem = "stdin" if source == "-" else Path(source.rstrip("/*")).name.split(".")[0]
    kept = "".join(c if c.isalnum() or c in "-_" else "-" for c in stem).strip("-") or "run"
    return f"{kept[:60]}-test" if trial else kept[:60]
