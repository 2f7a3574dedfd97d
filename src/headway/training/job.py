"""One attempt at a plan: load, probe, step by step, prove, receipt.

prepare     the model, its moments, where it stands; the losses before
steps       the loop; between two steps: log, evaluate, save, sample, stop
close       the last save, the losses after, the audit, the receipt

Whoever asks to stop is heard in all of it: a step and a save are finished, all else is left.
"""

import contextlib
import time
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
import transformers

from headway.base.errors import Exit, MachineError, Refusal, Remedy, message_of
from headway.base.events import (
    Ended,
    Evaluated,
    EventLog,
    Noted,
    Probed,
    Refined,
    StopAsked,
)
from headway.base.files import append_line
from headway.base.process import Left, Stop
from headway.base.pulse import Phase, Pulse
from headway.data.batching.batches import Batch, make_batch, prefetch
from headway.model.load import trainable
from headway.runs.folder import RunFolder
from headway.runs.receipt import Losses, Measured, Receipt, StepReport, TensorAudit
from headway.training.calibrate import (
    foretell_rest,
    peak_flops,
    peak_memory_bytes,
    remember_speed,
    settle,
    typical,
)
from headway.training.compile_trial import settle_compiled
from headway.training.initial_weights import starting_model
from headway.training.ledger import Ledger
from headway.training.loop import train
from headway.training.mishap import ended_early, mishap
from headway.training.out_of_memory import halved, try_largest
from headway.training.phases import Phases
from headway.training.proof import Probes, audit, first_rows
from headway.training.resuming import go_on
from headway.training.sample import samples
from headway.training.saver import Saver, described
from headway.training.schedule import learning_rate
from headway.training.setup import set_up, take_moments, versions
from headway.training.step import StepDropped, Stepper
from headway.training.write_receipt import Closing, code_of, finding_of, write_up

MAX_TIME = "max_time"
Outcome = Literal["finished", "interrupted", "failed"]


class Job:
    """An attempt to do what a run's plan says, from wherever its newest checkpoint stands.

    Args:
        path: the run's folder, with plan.json.
        log: where facts go.
        pulse: where it says what it is doing.
        stop: whether somebody asked to stop.
        attempt: 1 at the first start.

    Raises:
        Refusal: it cannot begin; nothing was written.
    """

    def __init__(self, path: Path, log: EventLog, pulse: Pulse, stop: Stop, attempt: int) -> None:
        self.folder = RunFolder(path)
        self.log = log
        self.pulse = pulse
        self.stop = stop
        self.attempt = attempt
        self.began_s = log.began_s
        self.phase = Phases(pulse, log)
        plan = self.folder.plan()
        if plan is None:
            raise MachineError(f"{path}/plan.json cannot be read", remedies=(Remedy("--fresh"),))
        self.plan = plan
        self.ledger = Ledger()
        self.refined_s: float | None = None
        self.first_step_s: float | None = None
        self.saver = Saver(self.folder, plan, log, self.phase)
        torch.set_num_threads(plan.machine.threads)
        transformers.utils.logging.disable_progress_bar()  # the screen is not its to write on

    def run(self) -> int:
        """Prepare, train, close; the exit code.

        Raises:
            Refusal: it could not begin.
        """
        try:
            with self.stop.may_leave(), self.phase(Phase.PREPARING):
                self._prepare()
        except Left:
            return self._left()
        except Refusal:
            raise
        except Exception as error:
            if self.stop.by:  # a library took the interruption for a fault of its own
                return self._left()
            raise self._mishap(error, "preparing") from error
        return self._close(*self._outcome())

    def _outcome(self) -> tuple[Outcome, Refusal | None]:
        """Train; how that ended."""
        try:
            with self.phase(Phase.TRAINING):
                self._train()
            if self.ledger.job_step == self.plan.steps.num:
                return "finished", None
            raise ended_early(self.ledger.job_step, self.plan)
        except StepDropped:
            return "interrupted", None
        except Exception as error:
            return "failed", self._mishap(error, "training")
        finally:
            self.setup.end_reading()

    def _mishap(self, error: Exception, doing: str) -> Refusal:
        return mishap(error, doing, self.plan, self.folder.path)

    def _left(self) -> int:
        """Nothing was trained in this attempt; what an earlier one saved stands."""
        line = f"stopped by {self.stop.by} before the first step: nothing to save"
        self.log.write(Ended("interrupted", int(self.stop.code), line))
        return self.stop.code

    # -- prepare -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        plan, parent = self.plan, self.plan.model.parent
        with self.phase(Phase.LOADING_MODEL):
            self.setup = set_up(plan, self.pulse)
        if parent and parent.keeps_optimizer:
            self.log.write(Noted(take_moments(self.setup, parent, self.ledger)))
        gone_on = go_on(self.folder, plan, self.setup, self.ledger, self.log, self.phase)
        self.pulse.steps = plan.steps.num
        self._count()
        with self.phase(Phase.CHECKING_PACKING):
            self._settle()
        self.stepper = Stepper(
            self.setup.forward,
            self.setup.optimizer,
            self.setup.parameters,
            rate=partial(learning_rate, plan.learning, num_steps=plan.steps.num),
            max_grad_norm=plan.learning.max_grad_norm,
            first=plan.steps.first,
            seed=plan.seed,
            pulse=self.pulse,
            give_up=self._out_of_time,
        )
        if gone_on is None:
            self.before = self._measured("before")
        else:
            checkpoint, state = gone_on
            self.saver.last = described(checkpoint)
            self.before = Losses(state.probe_before, state.held_out_before)
            self.stepper.no_gradient_yet = set(state.no_gradient_yet)

    def _settle(self) -> None:
        """Try out how this very model runs here, before its first step, and never again."""
        at, forward = (self.setup.rows, self.setup.order), self.setup.forward
        self.plan, findings = settle(self.plan, forward, *first_rows(*at, self.plan))
        again = findings is None
        self.plan, more = settle_compiled(self.plan, *at, forward, self.phase, again=again)
        findings = (findings or ()) + more
        if not again:
            self.plan, more = try_largest(self.plan, *at, forward, self.phase)
            findings += more
            self.plan.save(self.folder.path)
        self.probes = Probes(*at, forward, self.plan, self.phase)
        for finding in findings:
            self.log.write(Noted(finding))

    def _measured(self, when: str) -> Losses:
        losses = self.probes.measure()
        held_out = losses.held_out.mean if losses.held_out else None
        self.log.write(Probed(when, losses.probe.mean, held_out))
        return losses

    # -- steps -------------------------------------------------------------------------------

    def _train(self) -> None:
        if self.stop.by:
            raise StepDropped
        while True:
            try:
                return self._steps()
            except Exception as error:
                micro = self.stepper.micro if self.stepper.whole else None
                self.plan, finding = halved(self.plan, micro, error)
            self.plan.save(self.folder.path)
            self.log.write(Noted(finding))

    def _steps(self) -> None:
        steps = self.plan.steps
        make = partial(
            make_batch,
            self.setup.rows,
            self.setup.order,
            leaves=steps.leaves,
            micro_batch_tokens=steps.micro_batch_tokens,
            device=self.plan.machine.device,
            share=self.plan.shares,
        )
        batches = prefetch(
            make, self.ledger.job_step + 1, steps.num, self.pulse, on_wait=self._heed
        )
        self.step_began_s = time.monotonic()
        with contextlib.closing(batches):
            for batch, report in train(batches, self.stepper):
                self._finished(batch, report)
                if report.step < steps.num:  # `_close` does it all once more
                    with contextlib.suppress(Left):
                        self._between(report)
                    self._heed()
                    self.step_began_s = time.monotonic()

    def _finished(self, batch: Batch, report: StepReport) -> None:
        """A step's update is in the weights: count it and tell it."""
        rows = np.concatenate([m.rows_R for leaf in batch.leaves for m in leaf])
        self.ledger.add(report, rows)
        self.setup.note_reading(self.ledger, self.folder.path / "rejected.jsonl")
        self.stepper.whole = True
        if self.first_step_s is None:
            self.first_step_s = time.monotonic() - self.began_s
            self.saver.prepare(self.setup)
        self.log.write(report.told)
        self._count()

    def _count(self) -> None:
        ledger, pulse = self.ledger, self.pulse
        pulse.step = ledger.job_step
        pulse.global_step = self.plan.steps.first + ledger.job_step
        pulse.rows, pulse.tokens = ledger.applications, ledger.trained_tokens
        pulse.loss = ledger.loss_last or 0.0
        pulse.skipped = sum(self.plan.data.records.rejected.values())
        pulse.beat()

    def _between(self, report: StepReport) -> None:
        """What is due between this step and the next."""
        plan, held_out = self.plan, None
        self.saver.check()
        if len(self.ledger.attempt_seconds) == 3:
            self._refine()
        if plan.looks.eval_steps and report.step % plan.looks.eval_steps == 0:
            with self.stop.may_leave():
                held_out = self._evaluate(report.global_step)
        if self.saver.is_due(report.step):
            self._save(held_out)
        if plan.looks.sample_steps and report.step % plan.looks.sample_steps == 0:
            with self.stop.may_leave():
                self._sample(report.global_step)

    def _refine(self) -> None:
        """Foretell the whole attempt from what three steps took; the first one is not typical."""
        step_s = typical(self.ledger.attempt_seconds[1:])
        left = self.plan.steps.num - self.ledger.job_step
        elapsed_s = time.monotonic() - self.began_s
        rest_s = foretell_rest(self.plan, left, step_s, self.phase.seconds)
        self.refined_s = elapsed_s + rest_s
        self.log.write(Refined(self.refined_s, self.plan.steps.tokens / step_s))

    def _evaluate(self, global_step: int) -> Measured | None:
        began_s = time.monotonic()
        held_out = self.probes.measure_held_out()
        if held_out:
            took_s = time.monotonic() - began_s
            self.log.write(Evaluated(global_step, held_out.mean, held_out.rows, took_s))
        return held_out

    def _sample(self, global_step: int) -> None:
        with self.phase(Phase.SAMPLING, total=self.plan.looks.sample_tokens, unit="tokens"):
            for sampled in samples(self.setup.forward, self.plan, global_step, self.pulse):
                self.log.write(sampled)
                append_line(self.folder.path / "samples.jsonl", msgspec.json.encode(sampled))

    def _save(self, held_out: Measured | None = None) -> None:
        no_gradient_yet = self.stepper.no_gradient_yet
        self.saver.save(self.ledger, self.before, no_gradient_yet, held_out)

    def _heed(self) -> None:
        """Asked to stop: begin no step, and wait for no rows."""
        limit = self.plan.max_time_s
        if limit and time.monotonic() - self.began_s > limit:
            self.stop.ask(MAX_TIME, Exit.COME_BACK)
        if self.stop.by:
            raise StepDropped

    def _out_of_time(self) -> bool:
        """Whether the step in flight must be dropped so that the save still fits in the grace."""
        if not self.stop.by:
            return False
        usual_s = typical(self.ledger.attempt_seconds) if self.ledger.attempt_seconds else 0.0
        left_s = max(0.0, self.step_began_s + usual_s - time.monotonic())
        return self.stop.since_s() + left_s + self.saver.left_s() > self.plan.grace_s

    # -- close -------------------------------------------------------------------------------

    def _close(self, outcome: Outcome, failure: Refusal | None) -> int:
        """Save what is done, measure what came of it, write the receipt."""
        if self.stop.by == MAX_TIME:  # a signal was told by the supervisor, who had it first
            self.log.write(StopAsked(self.stop.by))
        failed = self._save_at_end()
        if failed:
            failure, outcome = failure or failed, "failed"
        after = tensors = None
        peak = peak_memory_bytes(self.plan.machine.device)  # before the audit loads a second model
        try:
            if outcome == "finished":
                with self.stop.may_leave():
                    after = self._measured("after")
                    if self.plan.looks.sample_steps:
                        self._sample(self.plan.steps.last)
                    tensors = self._audit()
            elif outcome == "interrupted" and self._has_time_to_look():
                after = self._measured("after")
        except Left:
            outcome = "interrupted"
        except Exception as error:
            failure, outcome = self._mishap(error, "closing"), "failed"
        with self.phase(Phase.WRITING_RECEIPT):
            receipt = self._receipt(outcome, failure, after, tensors, peak)
            receipt.save(self.folder.path)
            remember_speed(self.plan, self.ledger.attempt_seconds, self.first_step_s)
        code = code_of(receipt, failure, self.stop.code)
        finding = message_of(failure).findings[0] if failure else finding_of(receipt)
        self.log.write(Ended(receipt.outcome, int(code), receipt.line, finding))
        return code

    def _save_at_end(self) -> Refusal | None:
        """Save the last finished step, if that is what the weights are; why it is not saved.

        A save that is on its way is waited for in any case: the process must not end before it.
        """
        if not self.ledger.job_step or self.saver.failed:
            return None
        try:
            if self.stepper.whole:
                self._save()
            self.saver.finish()
        except Exception as error:
            return self._mishap(error, "saving")
        return None

    def _has_time_to_look(self) -> bool:
        looked_s = sum(self.phase.seconds.get(name, 0.0) for name in ("probing", "evaluating"))
        return bool(self.ledger.job_step) and self.stop.since_s() + looked_s <= self.plan.grace_s

    def _audit(self) -> TensorAudit:
        """Compare with the weights the job began with, made once more."""
        with self.phase(Phase.AUDITING_WEIGHTS):
            start = trainable(starting_model(self.plan))
            return audit(self.setup.parameters, start, self.stepper.no_gradient_yet)

    def _receipt(
        self,
        outcome: Outcome,
        failure: Refusal | None,
        after: Losses | None,
        tensors: TensorAudit | None,
        peak: int,
    ) -> Receipt:
        machine = self.plan.machine
        dtype = getattr(torch, machine.compute_dtype)
        return write_up(
            Closing(
                run=self.folder.path.name,
                outcome=outcome,
                why=failure.what if failure else self.stop.by,
                attempts=self.attempt,
                before=self.before,
                after=after,
                tensors=tensors,
                checkpoint=self.saver.last,
                seconds=time.monotonic() - self.began_s,
                by_phase=self.phase.seconds,
                to_first_step=self.first_step_s,
                max_silence=self.pulse.longest_silence_s,
                refined_s=self.refined_s,
                peak_memory=peak,
                peak_flops=peak_flops(machine.device, dtype, machine.threads),
                versions=versions(),
            ),
            self.plan,
            self.setup.order,
            self.ledger,
        )
