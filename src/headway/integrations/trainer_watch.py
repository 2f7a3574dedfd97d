"""Trainer watch: one run of a Trainer, from its first step to its receipt.

Everything is written by the thread that trains, when the Trainer calls. A look at the weights takes
one pass over them: before the first step, after the first update, after ten, and at the end.
"""

import math
import time
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from headway.base.errors import Cause, Finding, MachineError, Refusal
from headway.base.events import Ended, Evaluated, Event, Noted, PhaseEntered, Saved, StepDone
from headway.base.host.utilization import Activity
from headway.base.pulse import Phase
from headway.integrations.batch_counts import BatchCounts, StepCounts, add_up, count_batch
from headway.integrations.checkpoints import look_at_checkpoint, with_hashes
from headway.integrations.ending import Seen, WatchEnding, ending_of, make_receipt
from headway.integrations.sample_rows import SampledRows
from headway.integrations.seen_totals import SeenTotals
from headway.integrations.step_checks import (
    LOOK_AT_WEIGHTS,
    StepSeen,
    gradient_finding,
    step_problem,
    weights_problem,
)
from headway.integrations.trainer_facts import (
    STATE_SCHEMA,
    CallbackState,
    StartFacts,
    predicts_next_token,
    save_state,
)
from headway.integrations.watch_clock import WatchClock
from headway.integrations.weight_audit import WeightAudit
from headway.runs.watched.watched_receipt import SeenCheckpoint, WatchedReceipt
from headway.supervise.live.live_jobs import copy_pulses
from headway.supervise.live.watched_job import WatchedJob

Report = Callable[[Refusal | Finding], None]

_COPY_S = 1.0  # between two copies of the pulse in the run's folder
_LOOK_AT_GRADIENTS = frozenset({1, 2, 4, 8})  # updates
_SAY_DEAD = 4  # the update after which a tensor without a gradient is mentioned


class TrainerWatch:
    """What is seen of one call of `Trainer.train`. Fulfils `Spectator`.

    Args:
        job: the run, opened.
        facts: what was known before.
        model: that is trained.
        report: raises a refusal, or says it, as the callback was told.
        on_end: called once the run has ended.
        said: causes of problems that were told before.
        not_seen: what cannot be seen of this Trainer.
        spent_s: seconds that were spent looking before this.

    Attributes:
        receipt: None until the run has ended.
    """

    def __init__(
        self,
        job: WatchedJob,
        facts: StartFacts,
        model: Any,
        report: Report,
        *,
        on_end: Callable[[], None],
        said: Collection[Cause | None] = (),
        not_seen: tuple[str, ...] = (),
        spent_s: float = 0.0,
    ) -> None:
        self.job = job
        self.facts = facts
        self.receipt: WatchedReceipt | None = None
        self._report, self._on_end, self._not_seen = report, on_end, not_seen
        self._shifted = predicts_next_token(model)
        now_s = time.monotonic()
        self._clock = WatchClock(now_s - spent_s, spent_s, now_s)
        self._totals = SeenTotals()
        self._said = set(said)
        self._batches: list[BatchCounts | None] = []
        self._losses: list[Any] = []
        self._batch: object = None  # while it is computed
        self._grad_norm: Any = None
        self._before: tuple[StepSeen, StepCounts] | None = None  # the step that is being applied
        self._zero_in_a_row = 0
        self._batches_of_epoch = 0
        self._data_ended = False
        self._is_over = False
        self._global_step = facts.first
        self._checkpoint: SeenCheckpoint | None = None
        self._copied_s = now_s
        self._was_moved_looked_at = False
        with self._looking():
            self._audit = WeightAudit(model)
        pulse = job.pulse
        pulse.steps, pulse.global_step = facts.planned, facts.first
        self._write(PhaseEntered(Phase.TRAINING))
        pulse.enter(Phase.TRAINING)
        pulse.count_time()

    # -- what passes through the Trainer's methods --------------------------------------------

    @contextmanager
    def waiting(self) -> Generator[None]:
        """Batches are being fetched."""
        pulse = self.job.pulse
        with pulse.waiting("the next batch"), pulse.activity(Activity.DATA):
            yield

    @contextmanager
    def computing(self, inputs: object) -> Generator[None]:
        """A micro-batch runs forward and backward."""
        with self._looking():
            if not self._clock.first_batch_s:
                self._clock.first_batch_s = time.monotonic()
                self._clock.watching_before_s = self._clock.watching_s
            self._batch = inputs
            self._batches_of_epoch += 1
            self._batches.append(count_batch(inputs, shifted=self._shifted))
        with self.job.pulse.activity(Activity.COMPUTING):
            yield
        self._batch = None

    def batch_done(self, loss: Any) -> None:
        """A micro-batch has run."""
        self._losses.append(loss)

    def grad_norm_known(self, norm: Any) -> None:
        """The norm of all gradients, before clipping."""
        self._grad_norm = norm

    @contextmanager
    def saving(self) -> Generator[None]:
        """A checkpoint is being written."""
        pulse = self.job.pulse
        with pulse.phase(Phase.SAVING), pulse.activity(Activity.SAVING):
            yield

    def evaluating(self) -> AbstractContextManager[object]:
        """An evaluation runs."""
        return self.job.pulse.phase(Phase.EVALUATING)

    def raised(self, error: BaseException) -> None:
        """The run ends with an exception, which no problem of ours may hide."""
        with suppress(Exception):
            self.end(ending_of(error, self._batch, self.facts.embedding_rows))

    # -- steps --------------------------------------------------------------------------------

    def before_update(self, optimizer: Any, *, may_overflow: bool) -> None:
        """Look at a step before its update is applied.

        Raises:
            Refusal: it does not train, and refusals are raised.
        """
        with self._looking():
            counts, update = add_up(self._batches), self._totals.applied + 1
            seen = StepSeen(
                update=update,
                loss=_sum(self._losses),
                grad_norm=None if self._grad_norm is None else float(self._grad_norm),
                rate=max((float(group["lr"]) for group in optimizer.param_groups), default=0.0),
                trained=counts.trained if self.facts.processes == 1 else None,
                masked_before=self._totals.masked_steps,
                zero_before=self._zero_in_a_row,
                gradients=self._gradients(update),
                trainable=self.facts.optimizer.trainable,
                may_overflow=may_overflow,
            )
            self._before = seen, counts
            self._batches, self._losses, self._grad_norm = [], [], None
            self._zero_in_a_row = self._zero_in_a_row + 1 if seen.grad_norm == 0.0 else 0
            problem = step_problem(seen)
            self._totals.masked_steps += seen.trained == 0
            self._totals.nonfinite_steps += not seen.is_finite
        self._say_once(problem)

    def after_update(self, global_step: int, epoch: float, *, applied: bool) -> None:
        """Log a step, once its update was applied or skipped.

        Raises:
            Refusal: the weights do not change, and refusals are raised.
        """
        if self._before is None:
            return
        problem: Refusal | Finding | None = None
        with self._looking():
            (seen, counts), self._before = self._before, None
            self._global_step = global_step
            if applied:
                self._log_step(seen, counts, epoch)
                problem = self._weights_problem(seen)
            else:
                self._totals.skipped_steps += 1
            self._copy_pulse()
        self._clock.mark_s = time.monotonic()
        self._clock.watching_last_s = self._clock.watching_s
        self._say_once(problem)
        if applied and seen.update == _SAY_DEAD and not self.facts.optimizer.hides_gradients:
            self._say_once(gradient_finding(self._audit.dead, len(self._audit.names), seen.update))

    def epoch_ended(self) -> None:
        """Note whether an epoch had no batch at all: then the data is at its end."""
        self._data_ended = not self._batches_of_epoch
        self._batches_of_epoch = 0

    def evaluated(self, metrics: Mapping[str, Any], global_step: int) -> None:
        """Log an evaluation."""
        loss = metrics.get("eval_loss")
        if isinstance(loss, float):
            self._totals.evaluations = [*self._totals.evaluations[:1], loss]
            spent_s = float(metrics.get("eval_runtime", 0.0))
            self._write(Evaluated(global_step, loss, 0, spent_s))
        self._clock.mark_s = time.monotonic()

    def saved(self, folder: Path, global_step: int) -> None:
        """Look at a checkpoint that was saved, and leave in it what a resumed run wants to know.

        Raises:
            Refusal: it cannot be used, and refusals are raised.
        """
        spent_s = time.monotonic() - self._clock.mark_s
        with self._looking():
            found = look_at_checkpoint(folder, global_step, self._audit)
            if found is not None:
                self._checkpoint = found.checkpoint
                num_bytes = found.checkpoint.bytes
                self._write(Saved(global_step, folder.name, num_bytes, spent_s, spent_s))
                with suppress(MachineError):  # the Trainer's own files are there
                    save_state(folder, self._state(global_step))
        self._clock.mark_s = time.monotonic()
        self._say_once(found.problem if found is not None else None)

    def beat(self) -> None:
        """Show that the training thread makes progress."""
        self.job.pulse.beat_if_due()

    # -- the end ------------------------------------------------------------------------------

    def end_normally(self, global_step: int, *, stopped: bool) -> None:
        """End the run as the Trainer ends it.

        Args:
            global_step: that it ended at.
            stopped: whether something asked it to stop.
        """
        self._global_step = global_step
        ending = WatchEnding("finished")
        if global_step < self.facts.target and self._data_ended:
            ending = WatchEnding("finished", "the data ended")
        elif global_step < self.facts.target and stopped:
            ending = WatchEnding("interrupted", "stopped early by a callback")
        self.end(ending)

    def end_abandoned(self) -> None:
        """End a run whose Trainer began another one without a word about the end of this."""
        self.end(WatchEnding("failed", "the Trainer did not say that it ended"))

    def end(self, ending: WatchEnding) -> None:
        """Write the receipt and the last event, and close the run; once."""
        if self._is_over:
            return
        self._is_over = True
        try:
            tensors = None
            with self._looking():
                self.job.pulse.enter(Phase.WRITING_RECEIPT)
                if self._totals.applied:
                    with suppress(RuntimeError):  # a device that has failed cannot be read
                        tensors = self._audit.result()
                if self._checkpoint is not None:
                    self._checkpoint = with_hashes(self._checkpoint)
            silence_s = self.job.pulse.longest_silence_s
            time_seen = self._clock.result(time.monotonic(), silence_s)
            seen = Seen(self._totals, tensors, self._checkpoint, time_seen, self._global_step)
            receipt = make_receipt(self.job.run.name, self.facts, seen, ending, self._not_seen)
            self.receipt = receipt
            try:
                receipt.save(self.job.folder)
            except MachineError as error:  # not a reason to lose what was trained
                self._report(replace(error.finding(), kind="warning"))
            code = ending.exit_code(is_sound=receipt.is_sound)
            self._write(Ended(receipt.outcome, code, receipt.line, ending.finding))
        finally:
            self.job.close()
            self._on_end()

    # -- parts --------------------------------------------------------------------------------

    @contextmanager
    def _looking(self) -> Generator[None]:
        """Count what Headway takes from the training thread."""
        began_s = time.monotonic()
        try:
            yield
        finally:
            self._clock.watching_s += time.monotonic() - began_s

    def _write(self, event: Event) -> None:
        """Log an event; a disk that takes none must not end somebody's training."""
        with suppress(MachineError):
            self.job.log.write(event)

    def _gradients(self, update: int) -> tuple[int, int] | None:
        audit, is_hidden = self._audit, self.facts.optimizer.hides_gradients
        if update not in _LOOK_AT_GRADIENTS or is_hidden or not audit.is_readable:
            return None
        return None if audit.all_had_gradients else audit.look_at_gradients()

    def _log_step(self, seen: StepSeen, counts: StepCounts, epoch: float) -> None:
        now_s = time.monotonic()
        step = StepDone(
            step=seen.update,
            global_step=self._global_step,
            epoch=max(math.ceil(epoch), 1),
            loss=math.nan if seen.loss is None else seen.loss,
            grad_norm=math.nan if seen.grad_norm is None else seen.grad_norm,
            learning_rate=seen.rate or 0.0,
            rows=counts.rows or 0,
            trained_tokens=counts.trained or 0,
            input_tokens=counts.input or 0,
            computed_tokens=(counts.input or 0) + (counts.padding or 0),
            seconds=now_s - self._clock.mark_s,
            all_workers=self.facts.processes,
            workers=self.facts.processes,
        )
        self._totals.add(step, counts, loss_known=seen.loss is not None)
        self._clock.first_update_s = self._clock.first_update_s or now_s
        self._clock.last_update_s = now_s
        self._write(step)
        pulse, totals = self.job.pulse, self._totals
        pulse.step, pulse.global_step, pulse.loss = seen.update, self._global_step, step.loss
        pulse.rows, pulse.tokens = totals.seen_rows, totals.seen_tokens
        pulse.beat()

    def _weights_problem(self, seen: StepSeen) -> Refusal | Finding | None:
        """What the weights show: after the first update that could move them, and after ten."""
        is_first = bool(seen.rate) and not self._was_moved_looked_at
        if not is_first and seen.update != LOOK_AT_WEIGHTS:
            return None
        self._was_moved_looked_at = self._was_moved_looked_at or is_first
        tensors = self._audit.result() if self._totals.rate_max else None
        return None if tensors is None else weights_problem(tensors, seen.update)

    def _state(self, global_step: int) -> CallbackState:
        sampled = self.facts.sampled
        data = sampled.fingerprint if isinstance(sampled, SampledRows) else ""
        return CallbackState(STATE_SCHEMA, self.job.run.name, global_step, self.facts.rows, data)

    def _copy_pulse(self) -> None:
        now_s = time.monotonic()
        if now_s - self._copied_s >= _COPY_S:
            self._copied_s = now_s
            with suppress(MachineError, OSError):
                copy_pulses(self.job.live, self.job.folder)

    def _say_once(self, problem: Refusal | Finding | None) -> None:
        if problem is None or problem.cause in self._said:
            return
        self._said.add(problem.cause)
        finding = problem.finding() if isinstance(problem, Refusal) else problem
        self._write(Noted(finding))
        self._report(problem)


def _sum(losses: list[Any]) -> float | None:
    """The loss of a step, as the Trainer adds it up; waits for the device."""
    if not losses:
        return None
    return float(sum(loss.detach() if isinstance(loss, torch.Tensor) else loss for loss in losses))
