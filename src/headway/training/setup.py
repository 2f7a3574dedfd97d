"""Everything a job computes with, made from its plan, and put back by a resume."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from headway.base.errors import BrokenContract, DataRefused, Finding, MachineError, Remedy
from headway.base.pulse import Pulse
from headway.base.version import __version__
from headway.data.batching.rows import Rows, rows_of
from headway.data.order import StoreOrder, StreamOrder
from headway.data.stream.client import StreamClient
from headway.data.stream.cursor import HELD_OUT
from headway.data.survey.store import Store
from headway.model.forward import Forward
from headway.model.load import to_device, trainable
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.order import order_of
from headway.runs.plan import Parent, Plan
from headway.training.checkpoint import load_moments, load_weights
from headway.training.initial_weights import starting_model
from headway.training.ledger import Ledger
from headway.training.optimizer import make_optimizer, restore_moments


@dataclass(frozen=True)
class Setup:
    """What a job computes with."""

    rows: Rows
    order: StoreOrder | StreamOrder
    forward: Forward
    parameters: dict[str, nn.Parameter]  # the trainable ones
    optimizer: torch.optim.AdamW

    def note_reading(self, ledger: Ledger, rejected: Path) -> None:
        """After a step of a flow: where the next one begins to read, and what was found bad."""
        if not (isinstance(self.rows, StreamClient) and isinstance(self.order, StreamOrder)):
            return
        window = self.order.window_of(ledger.job_step)
        if ledger.read_cursor is None or ledger.read_cursor.window != window + 1:
            before = ledger.read_cursor.num_rejected if ledger.read_cursor else 0
            self.rows.write_rejected(window, rejected, before)
        ledger.read_cursor = self.rows.stand(window + 1)
        ledger.cursor = self.rows.stand(self.order.window_of(ledger.job_step + 1))

    def end_reading(self) -> None:
        """Nobody asks for rows any more: who still waits for them waits no longer."""
        if isinstance(self.rows, StreamClient):
            self.rows.end()


def set_up(plan: Plan, pulse: Pulse) -> Setup:
    """Map the data or begin to read it, load the model, make the optimizer.

    Raises:
        DataRefused: the data is not what was planned.
        BrokenContract: nothing of the model can be trained.
        UsageError: the model does not load.
        MachineError: the model does not go to the device.
    """
    store = Store(Path(plan.data.store))
    _check_data(store, plan)
    rows = rows_of(store, plan.data.max_length)
    order = order_of(plan)
    feed = _feed(plan, order) if isinstance(order, StreamOrder) else None
    model = to_device(starting_model(plan), plan.machine.device)
    parameters = trainable(model)
    if not parameters:
        raise _nothing_trainable(model)
    _end_answers(model, store.survey.end_id)
    if plan.machine.gradient_checkpointing:
        _checkpoint_activations(model)
    if feed:
        _await_rows(feed, plan, pulse)
    return Setup(
        rows=feed or rows,
        order=order,
        forward=Forward(model),
        parameters=parameters,
        optimizer=make_optimizer(parameters, plan.learning),
    )


def _feed(plan: Plan, order: StreamOrder) -> StreamClient:
    """Begin to read, so that rows are there when the model is."""
    assert plan.data.stream
    try:
        return StreamClient(Path(plan.data.stream.folder), order.window_of(plan.steps.num) + 1)
    except OSError as error:
        raise MachineError(
            "how this run's data is read was deleted from the cache",
            have=f"no {error.filename}",
            need="what the plan wrote there",
            remedies=(Remedy("the same command again", "writes it anew"),),
        ) from error


def _await_rows(feed: StreamClient, plan: Plan, pulse: Pulse) -> None:
    """The rows that a job's learning is judged by, with what the reader does shown meanwhile."""

    def look() -> None:
        now = feed.look()
        if now:
            pulse.rows, pulse.tokens, pulse.skipped = now.rows, now.tokens, now.skipped
        pulse.beat()

    with pulse.waiting("the first rows"):
        if plan.data.rows.held_out:
            feed.window(HELD_OUT, look)
        feed.window(0, look)


def take_moments(setup: Setup, parent: Parent, ledger: Ledger) -> Finding:
    """Go on with the parent's optimizer moments; says how many there were."""
    checkpoint = Checkpoint(Path(parent.checkpoint), parent.global_step)
    updates = checkpoint.state().optimizer_steps
    moments = load_moments(checkpoint.path)
    restored = restore_moments(setup.optimizer, setup.parameters, moments, updates)
    ledger.optimizer_steps = updates
    return Finding(
        "ok", f"optimizer moments of {restored} of {len(setup.parameters)} tensors go on"
    )


def resume(setup: Setup, plan: Plan, checkpoint: Checkpoint, ledger: Ledger) -> CheckpointState:
    """Put weights, moments and sums back as a checkpoint of this run has them.

    Raises:
        MachineError: it belongs to another plan, or lacks something.
    """
    state = checkpoint.state()
    if state.plan != plan.identity:
        raise MachineError(
            f"{checkpoint.path.name} belongs to another plan",
            have=f"plan {state.plan[:12]}",
            need=f"plan {plan.identity[:12]}, as in plan.json",
            remedies=(Remedy("--fresh", "start this run over"),),
        )
    load_weights(setup.forward.weights, checkpoint.path)
    setup.forward.refresh_copies()
    moments = load_moments(checkpoint.path)
    restore_moments(setup.optimizer, setup.parameters, moments, state.optimizer_steps)
    # Who never had a gradient has no moments.
    lacking = [name for name, p in setup.parameters.items() if p not in setup.optimizer.state]
    if not set(lacking) <= set(state.no_gradient_yet):
        raise MachineError(
            f"{checkpoint.path.name} lacks optimizer moments",
            have=f"none of {lacking[0]}, {len(lacking)} in all",
            need="those of every tensor that had a gradient",
            remedies=(Remedy("--fresh", "start this run over"),),
        )
    ledger.restore(state)
    if isinstance(setup.rows, StreamClient) and state.cursor:
        setup.rows.seek(state.cursor)
    return state


def none_verifies(folder: RunFolder, have: str) -> MachineError:
    """There are checkpoints, and none of them can be trusted."""
    return MachineError(
        f"no checkpoint of {folder.path.name} verifies",
        have=have,
        need="one that reads back as it was written",
        remedies=(Remedy("--fresh", "moves this folder aside and starts over"),),
    )


def _check_data(store: Store, plan: Plan) -> None:
    data, survey = plan.data, store.survey
    if (survey.fingerprint, survey.tokenizer) != (data.fingerprint, data.tokenizer):
        raise DataRefused(
            "the data changed since this run began",
            have=f"content {survey.fingerprint[:12]}",
            need=f"content {data.fingerprint[:12]}, as in plan.json",
            remedies=(Remedy("--fresh", "start over on the data as it is"),),
        )


def _end_answers(model: nn.Module, end_id: int) -> None:
    """Whoever loads a checkpoint finds in its generation config where an answer ends."""
    generation: Any = getattr(model, "generation_config", None)
    if generation is None:
        return
    ends = generation.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    if end_id not in ends:
        ends.append(end_id)
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]


def _checkpoint_activations(model: nn.Module) -> None:
    plain: Any = model
    if hasattr(plain, "activation_checkpointing_enable"):
        plain.activation_checkpointing_enable({"use_reentrant": False})
    else:  # its name in an older transformers
        plain.gradient_checkpointing_enable({"use_reentrant": False})
    if hasattr(plain, "enable_input_require_grads"):
        plain.enable_input_require_grads()


def _nothing_trainable(model: nn.Module) -> BrokenContract:
    total = sum(1 for _ in model.parameters())
    return BrokenContract(
        "nothing of this model can be trained",
        have=f"0 of {total} tensors take a gradient: all are frozen",
        need="at least one trainable tensor",
        remedies=(Remedy("--lora", "adapters on frozen weights"),),
    )


def versions() -> dict[str, str]:
    """What the weights' bits depend on, besides the plan."""
    return {
        "headway": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
