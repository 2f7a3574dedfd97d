"""Plan: every decision made before a run, and the only input of training.

`planning/decide.py` makes it, and `plan.json` keeps it. It never changes.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from headway.base.errors import Cause, DataRefused, Finding, Remedy
from headway.base.files import write_whole
from headway.base.versioned_json import read
from headway.config.settings import ChosenBy
from headway.data.formats.records import DataKind
from headway.data.replay_plan import ReplayPlan
from headway.data.survey.result import Lengths, PassedOver, SurveySample
from headway.runs.facts import html_table, plan_facts, plan_line
from headway.runs.workers import OnStall, Reduction

SCHEMA = "headway.plan/2"
TIGHT = 0.6  # of free memory: an estimated peak above this is tried before step 1


@dataclass(frozen=True)
class Choice:
    """One setting: its value, where it came from, and why."""

    name: str
    value: Any
    origin: str  # "--lr", "run.yaml:3:1", "you", "run notes", "default", "auto"
    reason: str = ""
    asked: Any = None  # the value that was asked for, where the data or the model cannot take it
    inherited: ChosenBy | None = None  # from the run that is continued: who chose it there


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
    row_sum: int  # sum of hash64(row, epoch) over these, modulo 2**64; 0 for a stream


@dataclass(frozen=True)
class StreamPlan:
    """A stream: data too large to read before step 1. Its counts are estimates."""

    folder: str  # with the stream's spec and the windows made ahead
    steps_per_window: int
    sampled: SurveySample  # that the counts are estimated from


@dataclass(frozen=True)
class DataPlan:
    """The data, and how it is cut into rows."""

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
    untrained: float  # share of tokens that are not trained
    marked_example: str
    duplicates: int = 0  # records equal to an earlier one
    shapes: tuple[str, ...] = ()  # row formats: "text", "ShareGPT", ...
    notes: dict[str, int] = field(default_factory=dict[str, int])  # of accepted examples, how often
    contents: dict[str, str] = field(default_factory=dict[str, str])  # sha256 by source
    stream: StreamPlan | None = None  # None: all data was read before step 1
    shared: float = 0.0  # share of input tokens in prefixes shared with another row of the step
    not_shared: str = ""  # why prefixes are not shared
    template_day: str = ""  # that the chat template was told, ISO 8601; "" if it does not ask
    examples: str = ""  # sha256 over the examples, or those of the sample
    twin_places: tuple[int, ...] = ()  # of the draw, not held out: an identical row is trained
    begin_id: int | None = None  # the token that they begin with
    passed_over: tuple[PassedOver, ...] = ()  # files, folders and parts of files that are not read


@dataclass(frozen=True)
class LoraPlan:
    """Low-rank adapters (Hu et al. 2021, arXiv:2106.09685)."""

    r: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]


@dataclass(frozen=True)
class Parent:
    """The run whose model this job continues from."""

    run: str
    checkpoint: str  # folder
    global_step: int
    manifest_sha256: str
    keeps_optimizer: bool  # whether its optimizer moments are used


@dataclass(frozen=True)
class ModelPlan:
    """The initial weights."""

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
    base: str = ""  # folder of the model that continued adapters belong to
    load_in_4bit: bool = False  # frozen weights are in 4 bits
    stored_bytes: int = 0  # of a weight in the files; 0: not read


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
    share_prefixes: bool = False  # a common prefix of rows of a step is computed once
    leaves_alone: int = 0  # that a single worker would have planned; 0: as many

    @property
    def last(self) -> int:
        """The global step after the job."""
        return self.first + self.num


@dataclass(frozen=True)
class LearningPlan:
    """The optimizer and its learning rate."""

    optim: str
    peak: float
    schedule: Literal["cosine", "linear", "constant", "wsd"]
    warmup_steps: int
    weight_decay: float
    beta1: float
    beta2: float
    epsilon: float
    max_grad_norm: float

    def decay_steps(self, num_steps: int) -> int:
        """Steps at the end of a job in which the rate falls."""
        after = num_steps - self.warmup_steps
        return {"constant": 0, "wsd": after // 5}.get(self.schedule, after)


_SAVE_S, _SAVE_BYTES_PER_S = 0.05, 200e6


@dataclass(frozen=True)
class SavesPlan:
    """When checkpoints are written, and their size."""

    every_steps: int
    every_minutes: float
    keep: int
    num: int  # by steps alone
    bytes_each: int
    keep_every: int | None = None  # every N-th step is kept permanently

    @property
    def seconds_each(self) -> float:
        """Estimated seconds that one takes, before one has been measured; on the safe side."""
        return _SAVE_S + self.bytes_each / _SAVE_BYTES_PER_S

    def most(self, steps: int, *, evaluated: bool) -> int:
        """Maximum number of checkpoints at one time, including the one being written.

        Args:
            steps: of the job.
            evaluated: held-out losses are measured between steps, so the best checkpoint is kept.
        """
        num_permanent = steps // self.keep_every if self.keep_every else 0
        return min(self.num, self.keep + evaluated + num_permanent) + 1


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
    snapshot: int = 0  # copy of weights and moments that is written in the background
    free: int = 0  # when it was planned; 0 if unknown
    host: int = 0  # on a GPU: of the host's memory, for the process and the copy that is written

    @property
    def tight(self) -> bool:
        """Whether to try the largest micro-batch before step 1."""
        return bool(self.free) and self.peak > TIGHT * self.free


@dataclass(frozen=True)
class WorkSaved:
    """Work that is saved, each as a share of what it would be otherwise."""

    padding: float = 0.0  # of rows padded to max_length
    untrained: float = 0.0  # logits of untrained tokens
    shared: float = 0.0  # prefixes shared with another row of the step


@dataclass(frozen=True)
class TimePlan:
    """Estimated time, as far as it is known before step 1."""

    tokens_per_second: float | None  # None: not measured on this machine yet
    seconds: float | None
    flops: float  # of the whole job
    saved: WorkSaved = WorkSaved()


@dataclass(frozen=True)
class WorkerSpeed:
    """How fast a number of workers was in earlier runs like this one, on this machine."""

    workers: int
    threads: int  # of each
    tokens_per_second: float | None  # None: not measured yet


@dataclass(frozen=True)
class MachinePlan:
    """The device, and how it computes."""

    device: str
    why: str
    threads: int
    workers: int
    compute_dtype: Literal["float32", "bfloat16"]
    gradient_checkpointing: bool
    cpu: str
    allocator: str = ""  # of host memory
    waiting: str = ""  # what threads do while they wait for each other
    groups: int = 1  # of workers
    reduction: Reduction = "tree"  # how gradients of several workers are added
    deterministic: bool = False  # only kernels that give the same bits each time
    compiled: bool = False  # as far as the trial before step 1 agrees
    alternatives: tuple[WorkerSpeed, ...] = ()  # that --nproc auto chose from
    idle_share: float = 0.0  # of the workers' time, for lack of leaves or since they differ in cost


@dataclass(frozen=True)
class Plan:
    """All decisions about a run. A plan with nothing to do cannot be built.

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
    replay: ReplayPlan | None = None  # rows of earlier runs that are mixed in
    on_stall: OnStall = "restart"  # what is done about a trainer that is not making progress

    def __post_init__(self) -> None:
        if self.steps.num < 1 or self.data.rows.planned < 1:
            raise DataRefused(
                "there is nothing to train",
                cause=Cause.TOO_LITTLE_DATA,
                have=f"{self.data.rows.accepted} rows, {self.steps.num} steps",
                need="at least one row and one step",
                remedies=(Remedy("more data"),),
            )

    def __repr__(self) -> str:
        """One line."""
        return f"<Plan {plan_line(self)}>"

    def _repr_html_(self) -> str:
        """A table, in a notebook."""
        return html_table(f"plan for {self.name}", plan_facts(self))

    def is_evaluated_after(self, step: int) -> bool:
        """Whether the held-out rows are evaluated after a step of the job that another follows."""
        every = self.evaluation.eval_steps
        is_due = bool(every and self.data.rows.held_out) and step % every == 0
        return is_due and step < self.steps.num

    @property
    def computed_tokens(self) -> int:
        """Approximate input tokens of a full step that are computed."""
        return computed_tokens(self.steps, self.data)

    def choice(self, name: str) -> Choice:
        """A setting by name.

        Raises:
            KeyError: there is no such setting.
        """
        for choice in self.settings:
            if choice.name == name:
                return choice
        raise KeyError(name)

    def to_json(self) -> bytes:
        """The contents of plan.json."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def save(self, folder: Path) -> None:
        """Write plan.json into a run's folder."""
        write_whole(folder / "plan.json", self.to_json())


def computed_tokens(steps: StepsPlan, data: DataPlan) -> int:
    """Approximate input tokens of a full step that are computed; shared prefixes count once."""
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
