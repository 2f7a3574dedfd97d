"""Setup of a job: data, model and optimizer from its plan, state from a checkpoint."""

import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from headway.base.errors import (
    BrokenContract,
    Cause,
    DataRefused,
    Finding,
    MachineError,
    Remedy,
)
from headway.base.events import Event, Noted, Resumed
from headway.base.pulse import Phase, Pulse
from headway.base.version import __version__
from headway.data.batching.batches import Batch
from headway.data.batching.rows import Rows, StoreRows, rows_of
from headway.data.order import MASK_64_BIT, RowOrder, row_hash
from headway.data.stream.client import StreamClient
from headway.data.stream.cursor import StreamCursor
from headway.data.stream.stream_rows import StreamRows
from headway.data.survey.store import Store
from headway.model.forward import Forward
from headway.model.load import trainable
from headway.runs.archive.replayed import with_replayed
from headway.runs.checkpoint_state import RowsDue
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.order import order_of
from headway.runs.plan import Parent, Plan
from headway.runs.receipt import Losses
from headway.runs.settled import Settled
from headway.training.ledger import Totals
from headway.training.optimizer import hidden_matrices, make_optimizer, restore_moments
from headway.training.phases import Phases
from headway.training.weights.holding import WHOLE, Holding
from headway.training.weights.initial_weights import add_end_ids
from headway.training.weights.untrained_embeddings import advise_new_tokens


@dataclass(frozen=True)
class Setup:
    """What a job computes with."""

    rows: Rows
    order: RowOrder
    forward: Forward
    parameters: dict[str, nn.Parameter]  # the trainable ones
    optimizer: torch.optim.Optimizer
    holding: Holding = WHOLE

    def with_position(self, totals: Totals, batch: Batch, rejected: Path) -> Totals:
        """The totals after a step, with where a stream is read and what was due so far.

        Args:
            totals: after the step.
            batch: of the step.
            rejected: file for the rejected records of the windows read so far.
        """
        if not isinstance(self.rows, StreamRows):
            return totals
        before, after = self.rows.cursors(totals.job_step)
        last = totals.read_cursor
        if last is None or last.window != after.window:
            self.rows.write_rejected(before.window, rejected, last.num_rejected if last else 0)
        is_window_done = totals.job_step == after.steps
        if is_window_done:  # by the set of the window's rows, whatever their order was
            due = RowsDue(after.rows, after.row_sum, after.distinct_rows)
        else:
            due = _add_due(totals.due or RowsDue(0, 0, 0), batch, before)
        cursor = after if is_window_done else before
        return replace(totals, due=due, read_cursor=after, cursor=cursor)

    def end_reading(self) -> None:
        """Stop the reader of a stream; pending waits for rows end."""
        if isinstance(self.rows, StreamRows):
            self.rows.end()


@dataclass(frozen=True)
class StartState:
    """Where a job starts: from nothing, from its parent's moments, or from a checkpoint.

    Attributes:
        totals: of the steps that were applied before.
        no_gradient_yet: trainable tensors without a non-zero gradient so far, None if all.
        checkpoint: of this run that it resumes from.
        before: the losses before the job's first update, None if still to be measured.
    """

    totals: Totals
    no_gradient_yet: frozenset[str] | None = None
    checkpoint: Checkpoint | None = None
    before: Losses | None = None


def set_up(
    plan: Plan,
    settled: Settled,
    pulse: Pulse,
    holding: Holding = WHOLE,
    *,
    reads: bool = True,
) -> Setup:
    """Open the data, load the model, make the optimizer.

    Args:
        plan: of the run.
        settled: of the run.
        pulse: of this process.
        holding: how this worker holds the model.
        reads: start the reader of a stream and wait for its first rows; else another worker does.

    Raises:
        DataRefused: the data, or what is replayed, changed since it was planned.
        BrokenContract: the model has no trainable tensor.
        UsageError: the model does not load.
        MachineError: the tokens are not there, or the model does not fit on the device.
    """
    store = _open_store(plan)
    _check_data(store, plan)
    stream = _open_stream(plan, reads=reads) if plan.data.stream else None
    model, run = holding.start(plan)
    parameters = trainable(model)
    if not parameters:
        raise _nothing_trainable(model)
    add_end_ids(model, store.survey.end_ids or [store.survey.end_id])
    if settled.gradient_checkpointing:
        checkpoint_activations(model)
    if isinstance(stream, StreamClient):
        _await_rows(stream, pulse)
    rows, order = stream or rows_of(store, plan.data.max_length), stream or order_of(plan)
    if plan.replay:
        rows, order = with_replayed(plan.replay, rows, order, plan.data.max_length)
    forward = Forward(model, on_layer=pulse.beat_if_due, whole=run)
    optimizer = make_optimizer(parameters, plan.learning, hidden_matrices(model))
    return Setup(rows, order, forward, parameters, optimizer, holding)


def _open_store(plan: Plan) -> Store:
    """The tokens that the plan was made from."""
    try:
        return Store(Path(plan.data.store))
    except (OSError, EOFError, ValueError) as error:
        name, problem = getattr(error, "filename", None), getattr(error, "strerror", None)
        raise MachineError(
            "this run's tokens cannot be read on this machine",
            cause=Cause.CACHE_MISSING,
            have=f"{name or plan.data.store}: {problem or error}",
            need="the folder of the cache that the plan wrote them to, the same on all machines",
            remedies=(
                Remedy("the same command again", "headway train tokenizes the data again"),
                Remedy(
                    "headway plan RUN/run.yaml --save RUN",
                    "does so for a launcher; XDG_CACHE_HOME says where",
                ),
            ),
        ) from error


def _open_stream(plan: Plan, *, reads: bool) -> StreamRows:
    """Start reading, so that rows are there when the model is."""
    assert plan.data.stream
    folder = Path(plan.data.stream.folder)
    try:
        return StreamClient(folder, plan.steps.num) if reads else StreamRows(folder)
    except OSError as error:
        raise MachineError(
            "the description of this run's stream was deleted from the cache",
            cause=Cause.CACHE_MISSING,
            have=f"no {error.filename}",
            need="the file that the plan wrote there",
            remedies=(
                Remedy("the same command again", "writes it again"),
                Remedy("--fresh", "start this run over"),
            ),
        ) from error


def _await_rows(client: StreamClient, pulse: Pulse) -> None:
    """Wait for the probe and held-out rows, showing what the reader does."""

    def show() -> None:
        now = client.reader_pulse()
        if now:
            pulse.rows, pulse.tokens, pulse.skipped = now.rows, now.tokens, now.skipped
        pulse.beat()

    with pulse.waiting("the first rows"):
        client.await_first(show)


# -- where it starts -----------------------------------------------------------------------------


def find_start(
    folder: RunFolder, plan: Plan, setup: Setup, phase: Phases, report: Callable[[Event], None]
) -> StartState:
    """Resume from the newest checkpoint that verifies, or start with the parent's moments.

    Args:
        folder: of the run.
        plan: of the run.
        setup: gets weights and moments.
        phase: current phase.
        report: gets what was restored, and each checkpoint that was moved to quarantine.

    Raises:
        MachineError: there are checkpoints, and none verifies. Nothing is moved then, and nothing
            starts over without being asked to.
    """
    start, parent = StartState(Totals()), plan.model.parent
    if parent and parent.keeps_optimizer:
        start, finding = take_moments(setup, parent)
        report(Noted(finding))
    folder.delete_leftovers()
    if not folder.checkpoints():
        if folder.model.is_symlink():
            raise _none_verifies(folder, "no checkpoint, though one was saved")
        weights, rows = setup.forward.weights, setup.rows.own
        if isinstance(rows, StoreRows) and (found := advise_new_tokens(weights, rows.store)):
            report(Noted(found))
        return start
    with phase(Phase.LOADING_CHECKPOINT):
        checkpoint, damaged = folder.newest_verified()
        if checkpoint is None:
            raise _none_verifies(folder, str(damaged[0]))
        start = resume(setup, plan, checkpoint)
    for one in damaged:
        moved = folder.quarantine(folder.path / one.name).relative_to(folder.path)
        what = f"{one}: moved to {moved}, resuming from {checkpoint.path.name}"
        report(Noted(Finding("warning", what, cause=Cause.CHECKPOINT_DAMAGED)))
    report(Resumed(checkpoint.path.name, checkpoint.global_step))
    return start


def restore(setup: Setup, plan: Plan, checkpoint: str) -> StartState:
    """Restore what the root restored, in a worker below it.

    Args:
        setup: gets weights and moments.
        plan: of the run.
        checkpoint: its folder; "" for the initial weights.
    """
    if checkpoint:
        path = Path(checkpoint)
        return resume(setup, plan, Checkpoint(path, int(path.name.rpartition("-")[2])))
    parent = plan.model.parent
    if parent and parent.keeps_optimizer:
        return take_moments(setup, parent)[0]
    return StartState(Totals())


def take_moments(setup: Setup, parent: Parent) -> tuple[StartState, Finding]:
    """Continue with the parent's optimizer moments."""
    checkpoint = Checkpoint(Path(parent.checkpoint), parent.global_step)
    updates = checkpoint.state().optimizer_steps
    moments = setup.holding.load_moments(checkpoint.path, setup.parameters)
    restored = restore_moments(setup.optimizer, setup.parameters, moments, updates)
    what = f"optimizer moments of {restored} of {len(setup.parameters)} tensors restored"
    return StartState(Totals(optimizer_steps=updates)), Finding("ok", what)


def resume(setup: Setup, plan: Plan, checkpoint: Checkpoint) -> StartState:
    """Restore weights and moments from a checkpoint of this run.

    Raises:
        MachineError: it belongs to another plan, or lacks something.
    """
    state = checkpoint.state()
    if state.plan != plan.identity:
        raise MachineError(
            f"{checkpoint.path.name} belongs to another plan",
            cause=Cause.CHECKPOINT_MISMATCH,
            have=f"plan {state.plan[:12]}",
            need=f"plan {plan.identity[:12]}, as in plan.json",
            remedies=(Remedy("--fresh", "start this run over"),),
        )
    setup.holding.load_weights(setup.forward.weights, checkpoint.path)
    setup.forward.refresh_copies()
    moments = setup.holding.load_moments(checkpoint.path, setup.parameters)
    restore_moments(setup.optimizer, setup.parameters, moments, state.optimizer_steps)
    # A tensor that never had a gradient has no moments.
    lacking = [name for name, p in setup.parameters.items() if p not in setup.optimizer.state]
    if not set(lacking) <= set(state.no_gradient_yet):
        raise MachineError(
            f"{checkpoint.path.name} lacks optimizer moments",
            cause=Cause.CHECKPOINT_DAMAGED,
            have=f"none for {lacking[0]}, {len(lacking)} missing in all",
            need="moments of every tensor that had a gradient",
            remedies=(Remedy("--fresh", "start this run over"),),
        )
    if isinstance(setup.rows, StreamRows):
        if state.cursor is None:
            raise _older_stream(checkpoint)
        setup.rows.seek(state.cursor)
    return StartState(
        Totals.from_state(state),
        frozenset(state.no_gradient_yet),
        checkpoint,
        Losses(state.probe_before, state.held_out_before),
    )


def _older_stream(checkpoint: Checkpoint) -> MachineError:
    return MachineError(
        f"{checkpoint.path.name} has no position in the stream that this version can read",
        cause=Cause.CHECKPOINT_MISMATCH,
        have="a stream read by Headway 0.1, whose windows spanned epochs",
        need="the version that started this run, or a new run",
        remedies=(Remedy("--fresh", "start this run over"),),
    )


def _none_verifies(folder: RunFolder, have: str) -> MachineError:
    return MachineError(
        f"no checkpoint of {folder.path.name} verifies",
        cause=Cause.CHECKPOINT_DAMAGED,
        have=have,
        need="a checkpoint that reads back as it was written",
        remedies=(Remedy("--fresh", "moves this folder aside and starts over"),),
    )


def _add_due(due: RowsDue, batch: Batch, before: StreamCursor) -> RowsDue:
    """One more step of a window that has further steps.

    Args:
        due: before the step.
        batch: of the step.
        before: the cursor before its window.
    """
    return RowsDue(
        due.rows + len(batch.planned_R),
        (due.row_sum + row_hash(batch.planned_R, batch.epoch)) & MASK_64_BIT,
        before.first_epoch_rows or due.rows + len(batch.planned_R),
    )


# -- parts of the setup --------------------------------------------------------------------------


def _check_data(store: Store, plan: Plan) -> None:
    data, survey = plan.data, store.survey
    if (survey.fingerprint, survey.tokenizer) != (data.fingerprint, data.tokenizer):
        raise DataRefused(
            "the data changed since this run started",
            cause=Cause.DATA_CHANGED,
            have=f"content {survey.fingerprint[:12]}",
            need=f"content {data.fingerprint[:12]}, as in plan.json",
            remedies=(Remedy("--fresh", "start over with the data as it is now"),),
        )
    if data.examples and survey.examples != data.examples:
        raise DataRefused(
            "the same data was tokenized differently when this run started",
            cause=Cause.DATA_CHANGED,
            have=f"tokens {survey.examples[:12]}",
            need=f"tokens {data.examples[:12]}, as in plan.json",
            remedies=(Remedy("--fresh", "start over with the tokens as they are now"),),
        )


def checkpoint_activations(model: nn.Module) -> None:
    """Recompute layers in the backward pass."""
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
        "this model has no trainable tensor",
        cause=Cause.NOTHING_TRAINABLE,
        have=f"0 of {total} tensors take a gradient: all are frozen",
        need="at least one trainable tensor",
        remedies=(Remedy("--lora", "adapters on frozen weights"),),
    )


def versions() -> dict[str, str]:
    """The versions that the weights' bits depend on, in addition to the plan."""
    return {
        "headway": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
    }
