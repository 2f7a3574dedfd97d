"""Saver: checkpoint schedule, snapshots on the training thread, writes in the background."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Set
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from threading import get_native_id
from typing import TypeVar

from headway.base.errors import Cause, Finding, MachineError, Refusal, Remedy
from headway.base.events import EventLog, Noted, Saved
from headway.base.files import MANIFEST, hash_file
from headway.base.host.background import in_background
from headway.base.host.utilization import Activity
from headway.base.pulse import Phase
from headway.base.units import seconds
from headway.runs import checkpoint_state
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.loss_history import LossHistory
from headway.runs.plan import Plan
from headway.runs.receipt import Losses, Measured, ReceiptCheckpoint
from headway.runs.settled import Settled
from headway.training.failures import as_refusal
from headway.training.ledger import Totals
from headway.training.phases import Phases
from headway.training.setup import versions
from headway.training.weights.checkpoint import Snapshot

REQUEST = "save"  # touch RUN/save
PATIENCE_S = 600.0  # with a write that makes no progress; a stop request has less
_POLL_S = 0.25
_NICE = 5  # of the background threads
_T = TypeVar("_T")


@dataclass(frozen=True)
class Written:
    """A checkpoint that was written, read back and renamed to its final name."""

    checkpoint: ReceiptCheckpoint
    seconds: float


class Saver:
    """Saves a job's state as checkpoints of its run.

    At a save point the training thread copies the state and continues; a background thread writes
    the copy, hashes it, reads it back, renames it to its final name and deletes older ones. One
    save is in flight at a time. One that fails is reported at once and is the last: the job ends.

    Args:
        folder: of the run.
        plan: says how often to save, and how many checkpoints to keep.
        log: gets each checkpoint that was read back.
        phase: current phase; the time that the training thread waits is entered here.
        last: the checkpoint that the attempt resumed from.

    Attributes:
        last: the newest checkpoint that was read back, None if there is none.
        failed: whether one could not be written.
    """

    def __init__(
        self,
        folder: RunFolder,
        plan: Plan,
        log: EventLog,
        phase: Phases,
        last: ReceiptCheckpoint | None = None,
    ) -> None:
        self.last = last
        self.failed = False
        self._folder = folder
        self._plan = plan
        self._log = log
        self._phase = phase
        self._snapshot: Future[Snapshot] | None = None
        self._name = ""  # of the newest checkpoint that was started
        self._writing: Future[Written] | None = None
        self._start_s = self._polled_s = time.monotonic()
        self._save_s = plan.saves.seconds_each
        self._history = LossHistory.of(plan, folder.path)

    def prepare(self, snapshot: Callable[[], Snapshot]) -> None:
        """Allocate memory for copies in the background; called after the first step, not before."""
        self._snapshot = _beside_training("snapshot", snapshot)

    def is_due(self, job_step: int) -> bool:
        """Whether to save after this step: by steps, by minutes, or by `touch RUN/save`."""
        saves, now_s = self._plan.saves, time.monotonic()
        is_requested = False
        if now_s - self._polled_s >= 1:
            self._polled_s, is_requested = now_s, self._request.is_file()
        if is_requested:
            self._log.write(Noted(Finding("ok", f"saving: {self._request} requests it")))
        return (
            is_requested
            or job_step % saves.every_steps == 0
            or (saves.keep_every is not None and job_step % saves.keep_every == 0)
            or (now_s - self._start_s) / 60 >= saves.every_minutes
        )

    def left_s(self) -> float:
        """Estimated seconds until the current state is saved."""
        in_flight = self._writing is not None and not self._writing.done()
        ahead_s = max(0.0, self._start_s + self._save_s - time.monotonic()) if in_flight else 0.0
        return ahead_s + self._save_s

    def save(
        self,
        totals: Totals,
        before: Losses,
        no_gradient_yet: Set[str],
        held_out: Measured | None,
        settled: Settled,
    ) -> None:
        """Copy the state and write it in the background, unless its checkpoint exists already.

        Args:
            totals: of the applied steps.
            before: the losses before the job's first update.
            no_gradient_yet: names of tensors without a non-zero gradient so far.
            held_out: the loss at this step, None if it was not evaluated.
            settled: how the run computes now.

        Raises:
            Refusal: the save before this one failed.
        """
        step = self._plan.steps.first + totals.job_step
        name = f"checkpoint-{step}"
        if name in (self._name, self.last and self.last.name):
            return
        start_s = time.monotonic()
        saving = self._phase(Phase.SAVING, total=self._plan.saves.bytes_each, unit="bytes")
        with self._phase.pulse.activity(Activity.SAVING), saving:
            self.finish()
            assert self._snapshot is not None, "prepared after the first step"
            self._wait(self._snapshot, "memory for a copy")
            snapshot = self._snapshot.result(0)
            snapshot.take()
            state = _state(self._plan, totals, before, no_gradient_yet, held_out)
            self._request.unlink(missing_ok=True)
        stall_s = time.monotonic() - start_s
        self._name, self._start_s = name, start_s
        self._writing = _beside_training(
            name, lambda: self._write(snapshot, state, settled, start_s, stall_s)
        )

    def check(self) -> None:
        """Note the end of a save in flight, without waiting for it.

        Raises:
            Refusal: it failed.
        """
        if self._writing is None or not self._writing.done():
            return
        writing, self._writing = self._writing, None
        self.failed = writing.exception() is not None
        written = writing.result()
        self.last, self._save_s = written.checkpoint, written.seconds

    def finish(self) -> None:
        """Wait for the save in flight.

        Raises:
            Refusal: it failed, or never completes.
        """
        if self._writing is not None:
            self._wait(self._writing, f"{self._name} to be on the disk")
            if not self._writing.done():
                self.failed = True
                raise _never_completes(self._name)
        self.check()

    def write_losses(self) -> None:
        """Write losses.csv at the end of an attempt, with all that was measured."""
        if not self.failed:  # then a thread may still be using the history
            self._history.read()
            self._write_losses()

    def _write_losses(self, up_to: int | None = None) -> None:
        """Write losses.csv. A run does not fail without it."""
        try:
            self._history.write_csv(self._folder.path, up_to)
        except MachineError as error:
            note = replace(error.finding(), kind="warning")
            with contextlib.suppress(Refusal):
                self._log.write(Noted(note))

    @property
    def _request(self) -> Path:
        return self._folder.path / REQUEST

    def _wait(self, future: "Future[_T]", what: str) -> None:
        """Wait for a thread, by name and with a limit."""
        if future.done():
            return
        end_s = time.monotonic() + PATIENCE_S
        with self._phase.pulse.waiting(what):
            while not future.done() and time.monotonic() < end_s:
                wait([future], _POLL_S)
                self._phase.pulse.beat()

    def _write(
        self,
        snapshot: Snapshot,
        state: CheckpointState,
        settled: Settled,
        start_s: float,
        stall_s: float,
    ) -> Written:
        """In the background thread: everything until the checkpoint is published."""
        plan, step = self._plan, state.global_step
        final = self._folder.path / f"checkpoint-{step}"
        try:
            self._history.read()
            trainer_state = self._history.trainer_state(plan, state)
            snapshot.write(final, state, Path(plan.data.store), trainer_state)
            self._folder.publish_checkpoint(final, plan.saves, plan.steps.first)
            self._write_losses(step)
            written = Written(described(Checkpoint(final, step)), time.monotonic() - start_s)
            num_bytes = written.checkpoint.bytes
            self._log.write(Saved(step, final.name, num_bytes, written.seconds, stall_s))
        except BaseException as error:
            doing = f"saving {final.name}"
            refusal = as_refusal(error, doing, plan, settled, self._folder.path)
            with contextlib.suppress(Refusal):  # the log may be on the same full disk
                self._log.write(Noted(refusal.finding()))
            raise refusal from error
        return written


def described(checkpoint: Checkpoint) -> ReceiptCheckpoint:
    """A checkpoint as the receipt describes it."""
    manifest = hash_file(checkpoint.path / MANIFEST)
    return ReceiptCheckpoint(checkpoint.path.name, manifest.sha256, checkpoint.num_bytes)


def _beside_training(name: str, work: Callable[[], _T]) -> "Future[_T]":
    """Run in the background, after whatever training needs."""

    def run() -> _T:
        _lower_priority()
        return work()

    return in_background(name, run)


def _lower_priority() -> None:
    """Let compute threads go first: delaying one of them delays them all."""
    if sys.platform == "linux":  # where each thread has its own priority
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)


def _never_completes(name: str) -> MachineError:
    return MachineError(
        f"{name} is not on the disk after {seconds(PATIENCE_S)}",
        cause=Cause.WRITE_STALLED,
        have="a write that never completes",
        need="a checkpoint that is written and read back",
        remedies=(
            Remedy("--output-dir DIR", "a folder on another disk"),
            Remedy("the same command again", "resumes from the newest checkpoint"),
        ),
    )


def _state(
    plan: Plan,
    totals: Totals,
    before: Losses,
    no_gradient_yet: Set[str],
    held_out: Measured | None,
) -> CheckpointState:
    return CheckpointState(
        schema=checkpoint_state.SCHEMA,
        global_step=plan.steps.first + totals.job_step,
        job_step=totals.job_step,
        epoch=totals.job_step / plan.steps.per_epoch,
        step_in_epoch=totals.job_step % plan.steps.per_epoch,
        optimizer_steps=totals.optimizer_steps,
        row_sum=totals.row_sum,
        applications=totals.applications,
        replayed=totals.replayed,
        replay_sum=totals.replay_sum,
        input_tokens=totals.input_tokens,
        trained_tokens=totals.trained_tokens,
        computed_tokens=totals.computed_tokens,
        step_seconds=totals.step_seconds,
        probe_before=before.probe,
        held_out_before=before.held_out,
        loss_first=totals.loss_first,
        loss_last=totals.loss_last,
        grad_norm_first=totals.grad_norm_first,
        grad_norm_last=totals.grad_norm_last,
        no_gradient_yet=tuple(sorted(no_gradient_yet)),
        plan=plan.identity,
        data=plan.data.fingerprint,
        tokenizer=plan.data.tokenizer,
        parent=plan.model.parent.checkpoint if plan.model.parent else "",
        versions=versions(),
        deviations=totals.deviations,
        due=totals.due,
        cursor=totals.cursor,
        read_cursor=totals.read_cursor,
        held_out=held_out,
        load_in_4bit=plan.model.load_in_4bit,
    )
