"""When a job saves, and what it says of it."""

import time
from collections.abc import Set
from pathlib import Path

from headway.base.events import EventLog, Saved
from headway.base.files import MANIFEST, hash_file
from headway.trainer.checkpoint import save_checkpoint
from headway.trainer.folder import STATE_SCHEMA, Checkpoint, RunFolder, State
from headway.trainer.ledger import Ledger
from headway.trainer.phases import Phases
from headway.trainer.plan import Plan
from headway.trainer.receipt import Losses, ReceiptCheckpoint
from headway.trainer.setup import Setup, versions


class Saver:
    """Saves a job's state as checkpoints of its run.

    Attributes:
        last: the newest checkpoint that was read back, None while there is none.
        seconds: what the last save took.
    """

    def __init__(self, folder: RunFolder, plan: Plan, log: EventLog, phase: Phases) -> None:
        self.last: ReceiptCheckpoint | None = None
        self.seconds = 0.0
        self._folder = folder
        self._plan = plan
        self._log = log
        self._phase = phase
        self._saved_at_s = time.monotonic()

    def is_due(self, job_step: int) -> bool:
        """Whether to save after this step: by steps, or because the last save is long ago."""
        saves = self._plan.saves
        minutes = (time.monotonic() - self._saved_at_s) / 60
        return job_step % saves.every_steps == 0 or minutes >= saves.every_minutes

    def save(self, setup: Setup, ledger: Ledger, before: Losses, no_gradient_yet: Set[str]) -> None:
        """Write a checkpoint, read it back, point `model` at it; nothing where it stands already.

        Raises:
            MachineError: it could not be written; the one before stands.
        """
        plan = self._plan
        step = plan.steps.first + ledger.job_step
        final = self._folder.path / f"checkpoint-{step}"
        if self.last and self.last.name == final.name:
            return
        began_s = time.monotonic()
        with self._phase("saving", total=plan.saves.bytes_each, unit="bytes"):
            save_checkpoint(
                final,
                setup.forward.model,
                setup.optimizer,
                setup.parameters,
                _state(plan, ledger, before, no_gradient_yet),
                Path(plan.data.store),
            )
            self._folder.acknowledge(final, plan.saves.keep)
        self.last = described(Checkpoint(final, step))
        self._saved_at_s = time.monotonic()
        self.seconds = self._saved_at_s - began_s
        self._log.write(Saved(step, final.name, self.last.bytes, self.seconds))


def described(checkpoint: Checkpoint) -> ReceiptCheckpoint:
    """A checkpoint as the receipt names it."""
    num_bytes = sum(file.stat().st_size for file in checkpoint.path.iterdir())
    manifest = hash_file(checkpoint.path / MANIFEST)
    return ReceiptCheckpoint(checkpoint.path.name, manifest.sha256, num_bytes)


def _state(plan: Plan, ledger: Ledger, before: Losses, no_gradient_yet: Set[str]) -> State:
    return State(
        schema=STATE_SCHEMA,
        global_step=plan.steps.first + ledger.job_step,
        job_step=ledger.job_step,
        epoch=ledger.job_step / plan.steps.per_epoch,
        step_in_epoch=ledger.job_step % plan.steps.per_epoch,
        optimizer_steps=ledger.optimizer_steps,
        row_sum=ledger.row_sum,
        applications=ledger.applications,
        input_tokens=ledger.input_tokens,
        trained_tokens=ledger.trained_tokens,
        computed_tokens=ledger.computed_tokens,
        step_seconds=ledger.step_seconds,
        probe_before=before.probe,
        held_out_before=before.held_out,
        loss_first=ledger.loss_first,
        loss_last=ledger.loss_last,
        grad_norm_first=ledger.grad_norm_first,
        grad_norm_last=ledger.grad_norm_last,
        no_gradient_yet=tuple(sorted(no_gradient_yet)),
        plan=plan.identity,
        data=plan.data.fingerprint,
        tokenizer=plan.data.tokenizer,
        parent=plan.model.parent.checkpoint if plan.model.parent else "",
        versions=versions(),
    )
