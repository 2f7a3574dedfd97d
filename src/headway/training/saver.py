"""When a job saves, and what it says of it: the loop copies its state, a thread writes it."""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Set
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, get_native_id
from typing import TypeVar

from headway.base.errors import Finding, MachineError, Refusal, Remedy
from headway.base.events import EventLog, Noted, Saved
from headway.base.files import MANIFEST, hash_file
from headway.base.pulse import Phase
from headway.base.units import seconds
from headway.runs import checkpoint_state
from headway.runs.checkpoint_state import CheckpointState
from headway.runs.folder import Checkpoint, RunFolder
from headway.runs.plan import Plan
from headway.runs.receipt import Losses, Measured, ReceiptCheckpoint
from headway.training.calibrate import foretell_save
from headway.training.checkpoint import Snapshot
from headway.training.ledger import Ledger
from headway.training.mishap import mishap
from headway.training.phases import Phases
from headway.training.setup import Setup, versions

BY_HAND = "save"  # touch RUN/save
PATIENCE_S = 600.0  # for a disk that takes nothing; whoever stops a run has less
_LOOK_S = 0.25
_NICE = 5  # of the threads beside the loop
_T = TypeVar("_T")


@dataclass(frozen=True)
class Written:
    """A checkpoint that was read back and stands under its name."""

    checkpoint: ReceiptCheckpoint
    seconds: float


class Saver:
    """Saves a job's state as checkpoints of its run.

    At a save point the training thread copies the state and goes on; a thread writes the copy,
    hashes it, reads it back, gives it its name and deletes older ones. One save is on its way at
    a time. One that failed is told at once and is the last: the job ends.

    Args:
        folder: the run's.
        plan: how often, and how many are kept.
        log: told of each checkpoint that was read back.
        phase: the time that the training thread stands still is entered here.

    Attributes:
        last: the newest checkpoint that was read back, None while there is none.
        failed: whether one could not be written.
    """

    def __init__(self, folder: RunFolder, plan: Plan, log: EventLog, phase: Phases) -> None:
        self.last: ReceiptCheckpoint | None = None
        self.failed = False
        self._folder = folder
        self._plan = plan
        self._log = log
        self._phase = phase
        self._snapshot: Future[Snapshot] | None = None
        self._name = ""  # of the newest checkpoint that was begun
        self._writing: Future[Written] | None = None
        self._began_s = self._looked_s = time.monotonic()
        self._whole_s = foretell_save(plan)

    def prepare(self, setup: Setup) -> None:
        """Make the memory for copies, beside the steps; the first one is waited for by people."""
        self._snapshot = _beside(
            "snapshot",
            lambda: Snapshot(setup.forward.weights, setup.optimizer, setup.parameters),
        )

    def is_due(self, job_step: int) -> bool:
        """Whether to save after this step: by steps, by minutes, or by `touch RUN/save`."""
        saves, now_s = self._plan.saves, time.monotonic()
        by_hand = False
        if now_s - self._looked_s >= 1:
            self._looked_s, by_hand = now_s, self._by_hand.is_file()
        if by_hand:
            self._log.write(Noted(Finding("ok", f"saving, as {self._by_hand} asks")))
        return (
            by_hand
            or job_step % saves.every_steps == 0
            or (saves.keep_every is not None and job_step % saves.keep_every == 0)
            or (now_s - self._began_s) / 60 >= saves.every_minutes
        )

    def left_s(self) -> float:
        """About how long it takes until the state as it is now is saved."""
        on_its_way = self._writing is not None and not self._writing.done()
        ahead_s = max(0.0, self._began_s + self._whole_s - time.monotonic()) if on_its_way else 0.0
        return ahead_s + self._whole_s

    def save(
        self,
        ledger: Ledger,
        before: Losses,
        no_gradient_yet: Set[str],
        held_out: Measured | None,
    ) -> None:
        """Copy the state and let it be written; nothing where its checkpoint stands already.

        Args:
            ledger: what was applied.
            before: the losses that the job began with.
            no_gradient_yet: names of tensors.
            held_out: the loss at this very step, None where nobody looked.

        Raises:
            Refusal: the save before this one failed.
        """
        step = self._plan.steps.first + ledger.job_step
        name = f"checkpoint-{step}"
        if name in (self._name, self.last and self.last.name):
            return
        began_s = time.monotonic()
        with self._phase(Phase.SAVING, total=self._plan.saves.bytes_each, unit="bytes"):
            self.finish()
            assert self._snapshot is not None, "prepared after the first step"
            self._wait(self._snapshot, "memory for a copy")
            snapshot = self._snapshot.result(0)
            snapshot.take()
            state = _state(self._plan, ledger, before, no_gradient_yet, held_out)
            self._by_hand.unlink(missing_ok=True)
        stall_s = time.monotonic() - began_s
        self._name, self._began_s = name, began_s
        self._writing = _beside(name, lambda: self._write(snapshot, state, began_s, stall_s))

    def check(self) -> None:
        """Take note of a save that has come to its end meanwhile.

        Raises:
            Refusal: it failed.
        """
        if self._writing is None or not self._writing.done():
            return
        writing, self._writing = self._writing, None
        self.failed = writing.exception() is not None
        written = writing.result()
        self.last, self._whole_s = written.checkpoint, written.seconds

    def finish(self) -> None:
        """Wait until nothing is on its way.

        Raises:
            Refusal: it failed, or takes no end.
        """
        if self._writing is not None:
            self._wait(self._writing, f"{self._name} to be on the disk")
            if not self._writing.done():
                self.failed = True
                raise _takes_no_end(self._name)
        self.check()

    @property
    def _by_hand(self) -> Path:
        return self._folder.path / BY_HAND

    def _wait(self, future: "Future[_T]", what: str) -> None:
        """Wait for the end of something, by name and not for ever."""
        if future.done():
            return
        end_s = time.monotonic() + PATIENCE_S
        with self._phase.pulse.waiting(what):
            while not future.done() and time.monotonic() < end_s:
                wait([future], _LOOK_S)
                self._phase.pulse.beat()

    def _write(
        self, snapshot: Snapshot, state: CheckpointState, began_s: float, stall_s: float
    ) -> Written:
        """In the thread: until the checkpoint is published."""
        plan, step = self._plan, state.global_step
        final = self._folder.path / f"checkpoint-{step}"
        try:
            snapshot.write(final, state, Path(plan.data.store))
            self._folder.publish_checkpoint(final, plan.saves, plan.steps.first)
            written = Written(described(Checkpoint(final, step)), time.monotonic() - began_s)
            num_bytes = written.checkpoint.bytes
            self._log.write(Saved(step, final.name, num_bytes, written.seconds, stall_s))
        except BaseException as error:
            refusal = mishap(error, f"saving {final.name}", plan, self._folder.path)
            with contextlib.suppress(Refusal):  # where the log is on the same full disk
                self._log.write(Noted(refusal.finding()))
            raise refusal from error
        return written


def described(checkpoint: Checkpoint) -> ReceiptCheckpoint:
    """A checkpoint as the receipt names it."""
    num_bytes = sum(file.stat().st_size for file in checkpoint.path.iterdir())
    manifest = hash_file(checkpoint.path / MANIFEST)
    return ReceiptCheckpoint(checkpoint.path.name, manifest.sha256, num_bytes)


def _beside(name: str, work: Callable[[], _T]) -> "Future[_T]":
    """Work in a thread whose end is never lost, and which never keeps a process from ending."""
    future: Future[_T] = Future()

    def run() -> None:
        _give_way()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name=name, daemon=True).start()
    return future


def _give_way() -> None:
    """Let the threads that compute go first: one of them held up holds up all."""
    if sys.platform == "linux":  # where a thread has a priority of its own
        os.setpriority(os.PRIO_PROCESS, get_native_id(), _NICE)


def _takes_no_end(name: str) -> MachineError:
    return MachineError(
        f"{name} is not on the disk after {seconds(PATIENCE_S)}",
        have="a disk that takes what is written to it very slowly, or not at all",
        need="a checkpoint that is written and read back",
        remedies=(
            Remedy("--output-dir DIR", "a folder on another disk"),
            Remedy("the same command again", "goes on from the newest checkpoint"),
        ),
    )


def _state(
    plan: Plan,
    ledger: Ledger,
    before: Losses,
    no_gradient_yet: Set[str],
    held_out: Measured | None,
) -> CheckpointState:
    return CheckpointState(
        schema=checkpoint_state.SCHEMA,
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
        cursor=ledger.cursor,
        read_cursor=ledger.read_cursor,
        held_out=held_out,
    )
