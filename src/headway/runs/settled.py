"""Settled values: results of the trials before step 1.

`plan.json` never changes. Whatever trying shows, and whatever a resume may change, is kept beside
it in `settled.json`: written before step 1, read and never measured again on resume.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

from headway.base.errors import Cause, MachineError, Remedy
from headway.base.files import write_whole
from headway.base.versioned_json import read
from headway.model.kernels.compile_level import CompileLevel
from headway.runs.plan import Plan
from headway.runs.workers import OnStall, Reduction

SCHEMA = "headway.settled/2"
FIRST = "headway.settled/1"  # said of compiling only whether
NAME = "settled.json"


@dataclass(frozen=True)
class Settled:
    """How a run computes, from its first step to its last.

    Attributes:
        plan: identity of the plan.
        has_tried: the trials before step 1 are done; until then all values are the plan's.
        compute_dtype: number format of the forward and backward pass.
        run_separately: documents run one at a time, because the model's layers leak state between
            packed documents.
        custom_logits: the model's logits are more than a product with the head's weights.
        tried_tokens: of the shorter one of the two documents that showed the last two.
        share_prefixes: rows of a micro-batch compute a common prefix once.
        compiled: how much of the model is compiled.
        micro_batch_tokens: tokens that run at once; smaller after an out-of-memory.
        gradient_checkpointing: layers are recomputed in the backward pass.
        deterministic: only kernels that give the same bits each time.
        max_time_s: the newest attempt's limit.
        grace_s: seconds that the newest attempt has for its last save.
        store: folder with the tokenized data, where the newest attempt found it.
        stream: folder of the stream, where the newest attempt found it; "" if there is none.
        model: folder of the initial weights, where the newest attempt found it; "" for a preset.
        base: folder of the model that continued adapters belong to, likewise.
        parent: the checkpoint that the run continues, likewise.
        workers: of the newest attempt; any number computes the same bits.
        groups: of workers, in the newest attempt.
        reduction: how the newest attempt adds gradients of several workers.
        on_stall: what the newest attempt does about a trainer that is not making progress.
    """

    schema: str
    plan: str
    has_tried: bool
    compute_dtype: Literal["float32", "bfloat16"]
    run_separately: bool
    custom_logits: bool
    share_prefixes: bool
    compiled: CompileLevel
    micro_batch_tokens: int
    gradient_checkpointing: bool
    max_time_s: float | None
    grace_s: float
    store: str = ""  # not kept by 0.1
    stream: str = ""
    model: str = ""
    base: str = ""
    parent: str = ""
    workers: int = 1
    groups: int = 1
    reduction: Reduction = "tree"
    on_stall: OnStall = "restart"
    deterministic: bool = False
    tried_tokens: int = 0

    @classmethod
    def from_plan(cls, plan: Plan) -> "Settled":
        """The planned values, before any trial."""
        return cls(
            schema=SCHEMA,
            plan=plan.identity,
            has_tried=False,
            compute_dtype=plan.machine.compute_dtype,
            run_separately=False,
            custom_logits=False,
            share_prefixes=plan.steps.share_prefixes,
            compiled=planned_level(plan),
            micro_batch_tokens=plan.steps.micro_batch_tokens,
            gradient_checkpointing=plan.machine.gradient_checkpointing,
            max_time_s=plan.max_time_s,
            grace_s=plan.grace_s,
            store=plan.data.store,
            stream=plan.data.stream.folder if plan.data.stream else "",
            model=plan.model.path,
            base=plan.model.base,
            parent=plan.model.parent.checkpoint if plan.model.parent else "",
            workers=plan.machine.workers,
            groups=plan.machine.groups,
            reduction=plan.machine.reduction,
            on_stall=plan.on_stall,
            deterministic=plan.machine.deterministic,
        )

    def applied_to(self, plan: Plan) -> Plan:
        """The plan with these values in place, to be shown; it is never written."""
        machine = replace(
            plan.machine,
            compute_dtype=self.compute_dtype,
            gradient_checkpointing=self.gradient_checkpointing,
            deterministic=self.deterministic,
            compiled=self.compiled.compiles,
            workers=self.workers,
            groups=self.groups,
            reduction=self.reduction,
        )
        steps = replace(
            plan.steps,
            micro_batch_tokens=self.micro_batch_tokens,
            share_prefixes=self.share_prefixes,
        )
        return replace(
            plan,
            machine=machine,
            steps=steps,
            max_time_s=self.max_time_s,
            grace_s=self.grace_s,
            on_stall=self.on_stall,
        )

    def locate_data(self, plan: Plan) -> Plan:
        """The plan with its folders as of now: a cache can be deleted, and a model be moved."""
        data, stream = plan.data, plan.data.stream
        if stream and self.stream:
            stream = replace(stream, folder=self.stream)
        model, parent = plan.model, plan.model.parent
        if parent and self.parent:
            parent = replace(parent, checkpoint=self.parent)
        model = replace(
            model, path=self.model or model.path, base=self.base or model.base, parent=parent
        )
        data = replace(data, store=self.store or data.store, stream=stream)
        return replace(plan, data=data, model=model)

    def save(self, folder: Path) -> None:
        """Write settled.json into a run's folder."""
        write_whole(folder / NAME, msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def planned_level(plan: Plan) -> CompileLevel:
    """How much of a model is compiled if the trial finds nothing against it.

    Whole layers on a GPU, where launches and memory traffic weigh more; they won 3% on a CPU.
    """
    if not plan.machine.compiled:
        return CompileLevel.NOTHING
    return CompileLevel.LAYERS if plan.machine.device == "cuda" else CompileLevel.OPERATIONS


def load_settled(folder: Path, plan: Plan) -> Settled:
    """Read settled.json; the planned values if there is none yet.

    Args:
        folder: of the run.
        plan: of the run.

    Raises:
        MachineError: it cannot be read, or belongs to another plan.
        UsageError: a newer Headway wrote it.
    """
    path = folder / NAME
    try:
        settled = read(path, Settled, SCHEMA, {FIRST: _with_level})
    except FileNotFoundError:
        return _from_first_plan(folder, Settled.from_plan(plan))
    except (OSError, msgspec.MsgspecError) as error:
        raise _unusable(path, str(error)) from error
    if settled.plan != plan.identity:
        raise _unusable(path, f"plan {settled.plan[:12]}, plan.json has {plan.identity[:12]}")
    return settled


def _with_level(settled: dict[str, Any]) -> dict[str, Any]:
    return settled | {"compiled": _level_of(settled["compiled"])}


def _level_of(compiled: bool) -> CompileLevel:
    """What older versions compiled, if anything."""
    return CompileLevel.OPERATIONS if compiled else CompileLevel.NOTHING


@dataclass(frozen=True)
class _Tried:
    """What version 1 of plan.json kept of the trials."""

    separately: bool
    own_logits: bool
    not_shared: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class _FirstPlan:
    tried: _Tried | None = None


def _from_first_plan(folder: Path, planned: Settled) -> Settled:
    """The trials of a run whose plan.json is of version 1, where they were kept in it."""
    try:
        tried = msgspec.json.decode((folder / "plan.json").read_bytes(), type=_FirstPlan).tried
    except (OSError, msgspec.MsgspecError):
        return planned
    if tried is None:
        return planned
    return replace(
        planned,
        has_tried=True,
        run_separately=tried.separately,
        custom_logits=tried.own_logits,
        share_prefixes=planned.share_prefixes and not (tried.separately or tried.not_shared),
        compiled=_level_of(tried.compiled),
    )


def _unusable(path: Path, have: str) -> MachineError:
    return MachineError(
        f"cannot use {path.name} of run {path.parent.name}",
        cause=Cause.RUN_UNREADABLE,
        have=have,
        need="what this run settled before its first step",
        remedies=(Remedy("--fresh", "start this run over"),),
    )
