"""The plans that the jobs in these tests do: small, and of every kind."""

from pathlib import Path
from typing import Any

from tests.helpers import TINY, folder_start, plan_of, settings

from headway.base.pulse import Pulse
from headway.data.survey.store import Store
from headway.planning.model_source import InitialModel, find_model_source
from headway.runs import checkpoint_state
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Measured

SMALL = {"max_length": 16, "batch_size": 4, "learning_rate": 3e-3}
DROPOUT = {"lora_r": 2, "lora_dropout": 0.3, "learning_rate": 1e-2}


STATE = CheckpointState(
    schema=checkpoint_state.SCHEMA,
    global_step=7,
    job_step=3,
    epoch=1.5,
    step_in_epoch=1,
    optimizer_steps=7,
    row_sum=2**64 - 1,
    applications=24,
    input_tokens=1000,
    trained_tokens=900,
    computed_tokens=1000,
    step_seconds=1.25,
    probe_before=Measured(2.5, 0.1, 8),
    held_out_before=None,
    loss_first=2.5,
    loss_last=2.25,
    grad_norm_first=1.0,
    grad_norm_last=0.5,
    no_gradient_yet=("model.norm.weight",),
    plan="9f" * 32,
    data="ab" * 32,
    tokenizer="cd" * 32,
    parent="",
    versions={"torch": "2"},
)


def planned(
    here: Path, data: str = "text", start: InitialModel | None = None, **given: Any
) -> Plan:
    """A small model from nothing; 14 steps through the text."""
    return plan_of(Store(here / data), start or TINY, **SMALL | given)


def adapted(here: Path, data: str = "text", **given: Any) -> Plan:
    """Adapters with dropout, so that every draw shows."""
    return planned(here, data, folder_start(here / "base"), **DROPOUT | given)


def going_on(run: RunFolder, **given: Any) -> InitialModel:
    """The start of a job that goes on from another run."""
    return find_model_source(settings(continue_run=str(run.path), **given), 0, Pulse()).initial


KINDS = {
    "text": lambda here: planned(here),
    "conversations": lambda here: planned(here, "chats"),
    "adapters on text": lambda here: adapted(here),
    "adapters on conversations": lambda here: adapted(here, "chats"),
}
