"""Attempt: what rank 0 does once per run: log, save, stop, judge, write the receipt.

prepare    the trainer, ready for its next step; the losses before
run        the loop; between two steps: log, evaluate, save, sample, stop
_close     the last save, the losses after, the audit, the receipt
A stop request is heard throughout: a step and a save are finished as far as the grace period
allows, everything else is left.
"""

import contextlib
import statistics
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import torch
import transformers

from headway.base.errors import Cause, Exit, MachineError, Refusal, Remedy, message_of
from headway.base.events import Ended, Evaluated, EventLog, Noted, Probed, Refined, StopAsked
from headway.base.files import append_line
from headway.base.host.contention import OtherWork, cpu_times, other_work
from headway.base.process import Left, Stop
from headway.base.pulse import Phase
from headway.data.batching.batches import Batch
from headway.model.kernels.reproducible import set_up_kernels
from headway.runs.folder import RunFolder
from headway.runs.log_facts import LogFacts
from headway.runs.receipt import Losses, Measured, Receipt, StepReport, TensorAudit
from headway.runs.settled import load_settled
from headway.training.distributed.place import ONLY_WORKER, TeamPlace
from headway.training.distributed.team import StepDropped
from headway.training.failures import as_refusal, ended_early
from headway.training.pace import estimate_remaining_s
from headway.training.phases import Phases
from headway.training.saver import Saver, described
from headway.training.setup import versions
from headway.training.sharded.choice import starter
from headway.training.step import train_steps
from headway.training.step_watch import StepWatch
from headway.training.trainer import Guard, Trainer, show_totals
from headway.training.trials.speed import peak_flops, peak_memory_bytes, remember_speed
from headway.training.weights.holding import WHOLE, Holding
from headway.training.write_receipt import Closing, code_of, finding_of, make_receipt

MAX_TIME = "max_time"
_RECEIPT_S = 1.5  # for the receipt and the end of the process


@dataclass(frozen=True)
class Ending:
    """How the steps of an attempt ended."""

    outcome: Literal["finished", "interrupted", "failed"]
    failure: Refusal | None = None


def prepare(
    path: Path,
    log: EventLog,
    phase: Phases,
    stop: Stop,
    place: TeamPlace = ONLY_WORKER,
    spent_s: float = 0.0,
    holding: Holding = WHOLE,
) -> "Attempt":
    """Set up an attempt at a run's plan, from its newest checkpoint.

    Args:
        path: the run's folder, with plan.json.
        log: gets the run's events.
        phase: current phase.
        stop: the stop request.
        place: of this process, the root, among the workers.
        spent_s: by earlier attempts of the same command.
        holding: how a model is held that is not in shards.

    Raises:
        Left: a stop was requested.
        Refusal: it cannot start.
    """
    folder = RunFolder(path)
    plan = folder.plan()
    if plan is None:
        raise MachineError(
            f"{path}/plan.json cannot be read",
            cause=Cause.RUN_UNREADABLE,
            remedies=(Remedy("--fresh", "start this run over"),),
        )
    settled = load_settled(path, plan)
    plan = settled.locate_data(plan)
    set_up_kernels(plan.machine.threads, plan.machine.device, deterministic=settled.deterministic)
    transformers.utils.logging.disable_progress_bar()  # the screen belongs to the supervisor
    try:
        with stop.may_leave(), phase(Phase.PREPARING):
            start_up = starter(settled, place, stop, holding)
            trainer, start = start_up(folder, plan, settled, phase, log.write, place)
    except Exception as error:
        if isinstance(error, Refusal) and not stop.by:
            raise
        if stop.by:  # a library mistook the interruption for an error of its own
            raise Left from error
        raise as_refusal(error, "preparing", plan, settled, path) from error
    if start.before is None:
        log.write(_probed("before", trainer.before))
    saver = Saver(folder, plan, log, phase, start.checkpoint and described(start.checkpoint))
    return Attempt(folder, trainer, saver, log, phase, stop, spent_s)


class Attempt:
    """One attempt to finish what a run's plan says.

    Args:
        folder: of the run.
        trainer: ready for its next step.
        saver: saves its state.
        log: gets the run's events.
        phase: current phase.
        stop: the stop request.
        spent_s: by earlier attempts of the same command.
    """

    def __init__(
        self,
        folder: RunFolder,
        trainer: Trainer,
        saver: Saver,
        log: EventLog,
        phase: Phases,
        stop: Stop,
        spent_s: float,
    ) -> None:
        self.folder = folder
        self.trainer, self.saver = trainer, saver
        self.log, self.phase, self.stop = log, phase, stop
        self.plan = trainer.plan
        self.start_s = log.began_s
        self.command_start_s = log.began_s - spent_s
        self.step_seconds: list[float] = []  # of each step of this attempt
        self.step_start_s = time.monotonic()
        self.watch = StepWatch(self.plan.learning)
        self.first_step_s: float | None = None
        self.refined_s: float | None = None
        self.other_work: OtherWork | None = None  # during the steps

    def run(self) -> int:
        """Take every step that is left, then close the attempt; returns the exit code."""
        return self._close(self._train())

    # -- steps -------------------------------------------------------------------------------

    def _train(self) -> Ending:
        trainer, before = self.trainer, cpu_times()
        take_step = partial(
            trainer.stepper.take_step, should_drop=self._should_drop_step, may_drop=self._may_drop
        )
        try:
            with self.phase(Phase.TRAINING):
                self._stop_if_asked()
                while True:
                    try:
                        self.step_start_s = time.monotonic()
                        with contextlib.closing(trainer.batches(self._stop_if_due)) as batches:
                            for batch, report in train_steps(batches, take_step):
                                self._finish_step(batch, report)
                        break
                    except Exception as error:
                        finding = trainer.halve_micro_batch(error)
                    trainer.settled.save(self.folder.path)
                    self.log.write(Noted(finding))
            if trainer.totals.job_step == self.plan.steps.num:
                trainer.team.compare_weights(self.plan.steps.num)
                return Ending("finished")
            raise ended_early(trainer.totals.job_step, self.plan)
        except StepDropped:
            return Ending("interrupted")
        except Exception as error:
            return Ending("failed", self._as_refusal(error, "training"))
        finally:
            trainer.setup.end_reading()
            self.other_work = other_work(before, cpu_times())

    def _finish_step(self, batch: Batch, report: StepReport) -> None:
        """Count and log a step whose update is in the weights; do what is due before the next."""
        trainer = self.trainer
        trainer.count(batch, report)
        self.step_seconds.append(report.seconds)
        self._watch(report)
        if self.first_step_s is None:
            self.first_step_s = time.monotonic() - self.start_s
            self.saver.prepare(trainer.snapshot)
        self.log.write(report.event())
        show_totals(self.phase.pulse, self.plan, trainer.totals)
        if report.step < self.plan.steps.num:  # after the last one, `_close` does it all
            with contextlib.suppress(Left):
                self._between_steps(report)
            self._stop_if_due()
            self.step_start_s = time.monotonic()

    def _watch(self, report: StepReport) -> None:
        """Warn of slow workers, slower steps, more time between them, and a loss that jumps."""
        found = self.watch.add(time.monotonic(), report, self.phase.seconds)
        for finding in (*found, *self.trainer.team.take_findings()):
            self.log.write(Noted(finding))

    def _between_steps(self, report: StepReport) -> None:
        """Save, evaluate and sample where it is due."""
        held_out, sample_steps = None, self.plan.evaluation.sample_steps
        self.saver.check()
        if len(self.step_seconds) == 3:
            self._refine_estimate()
        if self.plan.is_evaluated_after(report.step):
            held_out = self._evaluate(report.global_step)
        if self.saver.is_due(report.step):
            self._save(held_out)
        if sample_steps and report.step % sample_steps == 0:
            with self.stop.may_leave():
                self._sample(report.global_step)

    def _refine_estimate(self) -> None:
        """Estimate the attempt's time from its first steps, without the very first one."""
        step_s = statistics.median(self.step_seconds[1:])
        num_left = self.plan.steps.num - self.trainer.totals.job_step
        left_s = estimate_remaining_s(self.plan, num_left, step_s, self.phase.seconds)
        self.refined_s = time.monotonic() - self.start_s + left_s
        self.log.write(Refined(self.refined_s, self.plan.steps.tokens / step_s))

    def _evaluate(self, global_step: int) -> Measured | None:
        start_s = time.monotonic()
        held_out = self.trainer.measure_held_out(self.stop.may_leave, steps_follow=True)
        if held_out:
            took_s = time.monotonic() - start_s
            self.log.write(Evaluated(global_step, held_out.mean, held_out.rows, took_s))
        return held_out

    def _sample(self, global_step: int) -> None:
        for sampled in self.trainer.samples(global_step):
            self.log.write(sampled)
            append_line(self.folder.path / "samples.jsonl", msgspec.json.encode(sampled))

    def _save(self, held_out: Measured | None = None) -> None:
        trainer = self.trainer
        no_gradient_yet = trainer.stepper.no_gradient_yet
        self.saver.save(trainer.totals, trainer.before, no_gradient_yet, held_out, trainer.settled)

    # -- stopping ----------------------------------------------------------------------------

    def _stop_if_asked(self) -> None:
        if self.stop.by:
            raise StepDropped

    def _stop_if_due(self) -> None:
        """Raise StepDropped after a stop request or when time is up: no step is started."""
        limit_s = self.trainer.settled.max_time_s
        if limit_s and time.monotonic() - self.command_start_s > limit_s:
            self.stop.ask(MAX_TIME, Exit.COME_BACK)
        self._stop_if_asked()

    def _should_drop_step(self) -> bool:
        """Whether finishing the step in flight would leave too little time for its save."""
        if not self.stop.by:
            return False
        usual_s = statistics.median(self.step_seconds) if self.step_seconds else 0.0
        left_s = max(0.0, self.step_start_s + usual_s - time.monotonic())
        return self.stop.since_s() + left_s > self._save_by_s()

    @contextlib.contextmanager
    def _may_drop(self) -> Generator[None]:
        """Drop the step in flight, in the middle of a micro-batch, when it is time to save."""
        try:
            with self.stop.may_leave(after_s=self._save_by_s()):
                yield
        except Left:
            raise StepDropped from None

    def _end_by_s(self) -> float:
        """Seconds after a stop request by which the receipt is begun: writing it takes time."""
        grace_s = self.trainer.settled.grace_s
        return grace_s - min(_RECEIPT_S, grace_s / 4)

    def _save_by_s(self) -> float:
        """Seconds after a stop request by which the last save is begun."""
        return max(0.0, self._end_by_s() - self.saver.left_s())

    def _has_time_to_probe(self) -> bool:
        phases = (Phase.PROBING, Phase.EVALUATING)
        took_s = sum(self.phase.seconds.get(phase, 0.0) for phase in phases)
        return self.stop.since_s() + took_s <= self._end_by_s()

    # -- the end -----------------------------------------------------------------------------

    def _close(self, ending: Ending) -> int:
        """Save the last step, measure the result, write the receipt; returns the exit code."""
        if self.stop.by == MAX_TIME:  # signals are logged by the supervisor, which got them first
            self.log.write(StopAsked(self.stop.by))
        ending, after = self._save_at_end(ending)
        peak = peak_memory_bytes(self.plan.machine.device)  # before the audit loads a second model
        ending, tensors = self._judge(ending, after)
        with self.phase(Phase.WRITING_RECEIPT):
            self.saver.write_losses()
            receipt = self._receipt(ending, after, tensors, peak)
            receipt.save(self.folder.path)
            remember_speed(self.plan, self.trainer.settled, self.step_seconds, self.first_step_s)
        code, failure = code_of(receipt, ending.failure, self.stop.code), ending.failure
        finding = message_of(failure).findings[0] if failure else finding_of(receipt)
        self.log.write(Ended(receipt.outcome, int(code), receipt.line, finding))
        return code

    def _save_at_end(self, ending: Ending) -> tuple[Ending, Losses | None]:
        """Save the last finished step, if the weights are at it; measure the losses meanwhile.

        A save in flight is waited for in any case: the process must not end before it does.
        """
        if not self.trainer.totals.job_step or self.saver.failed:
            return ending, None
        after, is_finished = None, ending.outcome == "finished"
        try:
            if self.trainer.weights_are_counted:
                self._save()
            if is_finished:
                ending, after = self._measure(ending, self.stop.may_leave)
            self.saver.finish()
        except Exception as error:
            return Ending("failed", ending.failure or self._as_refusal(error, "saving")), None
        if ending.outcome == "interrupted" and not is_finished and self._has_time_to_probe():
            return self._measure(ending, partial(self.stop.may_leave, self._end_by_s()))
        return ending, after

    def _measure(self, ending: Ending, may_leave: Guard) -> tuple[Ending, Losses | None]:
        """The losses after the last step, as far as there is time."""
        try:
            return ending, self.trainer.measure(may_leave)
        except Left:
            return Ending("interrupted", ending.failure), None
        except Exception as error:
            return Ending("failed", self._as_refusal(error, "closing")), None

    def _judge(self, ending: Ending, after: Losses | None) -> tuple[Ending, TensorAudit | None]:
        """Find out whether the weights moved, as far as there is time."""
        try:
            if after:  # not before: the history of losses in a checkpoint ends with its step
                self.log.write(_probed("after", after))
            if ending.outcome == "finished":
                with self.stop.may_leave():
                    if self.plan.evaluation.sample_steps:
                        self._sample(self.plan.steps.last)
                    return ending, self._audit()
        except Left:
            ending = Ending("interrupted", ending.failure)
        except Exception as error:
            ending = Ending("failed", self._as_refusal(error, "closing"))
        finally:
            self.trainer.team.end()
        return ending, None

    def _audit(self) -> TensorAudit:
        last = self.saver.last
        return self.trainer.audit(self.folder.path / last.name if last else None)

    def _receipt(
        self, ending: Ending, after: Losses | None, tensors: TensorAudit | None, peak_memory: int
    ) -> Receipt:
        trainer, machine, failure = self.trainer, self.plan.machine, ending.failure
        dtype = getattr(torch, trainer.settled.compute_dtype)
        logged = LogFacts.read(self.folder.events, self.log.attempt)
        closing = Closing(
            run=self.folder.path.name,
            outcome=ending.outcome,
            why=failure.what if failure else logged.asked_by or self.stop.by,
            cause=failure.cause if failure else None,
            attempts=self.log.attempt,
            before=trainer.before,
            after=after,
            tensors=tensors,
            checkpoint=self.saver.last,
            seconds=time.monotonic() - self.start_s,
            by_phase=self.phase.seconds,
            to_first_step=self.first_step_s,
            max_silence=self.phase.pulse.longest_silence_s,
            other_work=self.other_work,
            watching=self.phase.pulse.written_s + self.log.written_s,
            refined_s=self.refined_s,
            peak_memory=peak_memory + trainer.others_memory,
            peak_flops=peak_flops(machine.device, dtype, machine.threads, self.start_s),
            versions=versions(),
            workers=trainer.workers(),
            stalls=logged.stalls,
        )
        return make_receipt(closing, self.plan, trainer.settled, trainer.totals)

    def _as_refusal(self, error: Exception, doing: str) -> Refusal:
        return as_refusal(error, doing, self.plan, self.trainer.settled, self.folder.path)


def _probed(when: str, losses: Losses) -> Probed:
    return Probed(when, losses.probe.mean, losses.held_out.mean if losses.held_out else None)
