"""Checkpoint contents: the fields of headway.json, and older versions of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headway.base.versioned_json import read
from headway.data.stream.cursor import StreamCursor
from headway.runs.receipt import Measured

FILE = "headway.json"
SCHEMA = "headway.checkpoint/2"


@dataclass(frozen=True)
class RowsDue:
    """Rows that the applied steps were to train, each counted as often as it was due.

    Attributes:
        rows: their number.
        row_sum: sum of hash64(row, epoch) over them, modulo 2**64.
        distinct: different rows among them.
    """

    rows: int
    row_sum: int
    distinct: int


@dataclass(frozen=True)
class CheckpointState:
    """Where a run stopped: its step, its running totals, and what it was made from.

    The row order is a function of the step, so `job_step` is the position in stored data; a stream
    needs its cursors as well. The totals go into the receipt.
    """

    schema: str
    global_step: int
    job_step: int  # finished steps of this job
    epoch: float
    step_in_epoch: int
    optimizer_steps: int  # updates that AdamW's moments have seen
    row_sum: int  # sum of hash64(row, epoch) over applied rows, modulo 2**64
    applications: int  # applied rows, counted each time
    input_tokens: int
    trained_tokens: int
    computed_tokens: int
    step_seconds: float
    probe_before: Measured
    held_out_before: Measured | None
    loss_first: float | None
    loss_last: float | None
    grad_norm_first: float | None
    grad_norm_last: float | None
    no_gradient_yet: tuple[str, ...]  # trainable tensors whose gradient has always been zero
    plan: str  # identity of the plan; it and the fingerprints are compared before resuming
    data: str
    tokenizer: str
    parent: str  # the checkpoint this job started from, "" for none
    versions: dict[str, str]
    held_out: Measured | None = None  # after this step, if it was evaluated here
    # "epoch:row" of rows trained more (> 0) or less (< 0) often than planned; {} unless broken
    deviations: dict[str, int] = field(default_factory=dict[str, int])
    replayed: int = 0  # applied rows of earlier runs
    replay_sum: int = 0  # sum of hash64(row, 0) over these, modulo 2**64
    due: RowsDue | None = None  # streams: by the windows that the reader made
    cursor: StreamCursor | None = None  # streams: start of the next step's window
    read_cursor: StreamCursor | None = None  # streams: end of the last step's window
    load_in_4bit: bool = False  # adapters: the model below them was in 4 bits


def read_state(checkpoint: Path) -> CheckpointState:
    """Read headway.json of a checkpoint, of this version or an older one.

    Raises:
        OSError: the file cannot be read.
        msgspec.MsgspecError: its content is not valid.
        UsageError: a newer Headway wrote it.
    """
    return read(checkpoint / FILE, CheckpointState, SCHEMA, UPGRADES)


def is_on_4bit(folder: Path) -> bool:
    """Whether a folder has adapters that were trained on a model in 4 bits.

    Raises:
        UsageError: a newer Headway wrote it.
    """
    try:
        return read_state(folder).load_in_4bit
    except (OSError, msgspec.MsgspecError):
        return False  # of another trainer, or a copy of the adapters alone


def _from_version_1(value: dict[str, Any]) -> dict[str, Any]:
    """Version 1 called the cursors `stand` and `read_to`; its windows spanned epochs."""
    return {name: part for name, part in value.items() if name not in {"stand", "read_to"}}


UPGRADES = {"headway.checkpoint/1": _from_version_1}
