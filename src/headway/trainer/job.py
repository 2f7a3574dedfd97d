"""One attempt at a plan: load, probe, step by step, prove, receipt.

prepare     the model, its moments, where it stands; the losses before
steps       the loop; between two steps: log, save, evaluate, sample, stop
close       the last save, the losses after, the audit, the receipt
"""

import time
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
import transformers

from headway.base.errors import (
    BrokenContract,
    Exit,
    Finding,
    MachineError,
    Refusal,
    Remedy,
    exit_code,
    told,
)
from headway.base.events import (
    Ended,
    Evaluated,
    EventLog,
    Noted,
    Probed,
    Refined,
    StepDone,
    StopAsked,
)
from headway.base.files import append_line
from headway.base.machine import remember
from headway.base.pulse import Pulse
from headway.data.batches import Batch, make_batch, prefetched
from headway.model.load import trainable
from headway.trainer.calibrate import (
    documents_leak,
    foretell_rest,
    peak_flops,
    peak_memory_bytes,
    typical,
)
from headway.trainer.closing import Closing, finding_of, write_up
from headway.trainer.costs import speed_key
from headway.trainer.folder import RunFolder, State
from headway.trainer.ledger import Ledger
from headway.trainer.loop import train
from headway.trainer.phases import Phases
from headway.trainer.process import Stop
from headway.trainer.proof import Probes, audit
from headway.trainer.receipt import (
    Losses,
    Receipt,
    StepReport,
    TensorAudit,
)
from headway.trainer.sample import samples
from headway.trainer.saving import Saver, described
from headway.trainer.schedule import learning_rate
from headway.trainer.setup import none_verifies, resume, set_up, take_moments, versions
from headway.trainer.start import starting_model
from headway.trainer.step import StepDropped, Stepper

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
        """Prepare, train, close; the exit code."""
        failure: Refusal | None = None
        outcome: Outcome = "finished"
        with self.phase("preparing"):
            self._prepare()
        try:
            with self.phase("training"):
                self._train()
            if self.ledger.job_step < self.plan.steps.num:
                if not self.stop.by:
                    raise _ended_early(self.ledger.job_step, self.plan.steps.num)
                outcome = "interrupted"
        except StepDropped:
            outcome = "interrupted"
        except Refusal as refusal:
            failure, outcome = refusal, "failed"
        return self._close(outcome, failure)

    # -- prepare -----------------------------------------------------------------------------

    def _prepare(self) -> None:
        plan = self.plan
        with self.phase("loading the model"):
            self.setup = set_up(plan)
            self.probes = Probes(
                self.setup.rows, self.setup.order, self.setup.forward, plan, self.phase
            )
        parent = plan.model.parent
        if parent and parent.keeps_optimizer:
            self.log.write(Noted(take_moments(self.setup, parent, self.ledger)))
        state = self._resume()
        self.pulse.steps = plan.steps.num
        self._count()
        with self.phase("checking the packing"):
            self._check_packing()
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
        if state is None:
            self.before = self._measured("before")
        else:
            self.before = Losses(state.probe_before, state.held_out_before)
            self.stepper.no_gradient_yet = set(state.no_gradient_yet)

    def _resume(self) -> State | None:
        """Go to the newest checkpoint that verifies, where there is one."""
        self.folder.sweep()
        checkpoint, problems = self.folder.newest_verified()
        for problem in problems:
            self.log.write(Noted(Finding("warning", f"passed over: {problem}")))
        if checkpoint is None:
            if problems:
                raise none_verifies(self.folder, problems)
            return None
        with self.phase("loading the checkpoint"):
            state = resume(self.setup, self.plan, checkpoint, self.ledger)
            self.saver.last = described(checkpoint)
        return state

    def _check_packing(self) -> None:
        """Packed and separate must be the same on this very model; else run separately."""
        if documents_leak(self.setup.forward, self.probes.probe[0]):
            self.setup.forward.run_separately()
            what = "layers of this model see across documents: each runs by itself, more slowly"
            self.log.write(Noted(Finding("adjusted", what)))

    def _measured(self, when: str) -> Losses:
        losses = self.probes.measure()
        held_out = losses.held_out.mean if losses.held_out else None
        self.log.write(Probed(when, losses.probe.mean, held_out))
        return losses

    # -- steps -------------------------------------------------------------------------------

    def _train(self) -> None:
        steps = self.plan.steps
        make = partial(
            make_batch,
            self.setup.rows,
            self.setup.order,
            leaves=steps.leaves,
            micro_batch_tokens=steps.micro_batch_tokens,
            device=self.plan.machine.device,
        )
        batches = prefetched(make, self.ledger.job_step + 1, steps.num, self.pulse)
        for batch, report in train(batches, self.stepper):
            self._finished(batch, report)
            self._between(report)
            if self._asked_to_stop():
                return

    def _finished(self, batch: Batch, report: StepReport) -> None:
        """A step's update is in the weights: count it and tell it."""
        rows = np.concatenate([m.rows_R for leaf in batch.leaves for m in leaf])
        self.ledger.add(report, rows)
        if self.first_step_s is None:
            self.first_step_s = time.monotonic() - self.began_s
        self.log.write(
            StepDone(
                step=report.step,
                global_step=report.global_step,
                epoch=report.epoch + 1,
                loss=report.loss,
                grad_norm=report.grad_norm,
                learning_rate=report.learning_rate,
                rows=report.rows,
                trained_tokens=report.trained_tokens,
                input_tokens=report.input_tokens,
                computed_tokens=report.computed_tokens,
                seconds=report.seconds,
            )
        )
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
        plan, last = self.plan, report.step == self.plan.steps.num
        if len(self.ledger.attempt_seconds) == 3:
            self._refine()
        if last:
            return  # `_close` does it all once more
        if self.saver.is_due(report.step):
            self._save()
        if plan.looks.eval_steps and report.step % plan.looks.eval_steps == 0:
            self._evaluate(report.global_step)
        if plan.looks.sample_steps and report.step % plan.looks.sample_steps == 0:
            self._sample(report.global_step)

    def _refine(self) -> None:
        """Foretell the whole attempt from what three steps took; the first one is not typical."""
        step_s = typical(self.ledger.attempt_seconds[1:])
        left = self.plan.steps.num - self.ledger.job_step
        elapsed_s = time.monotonic() - self.began_s
        rest_s = foretell_rest(self.plan, left, step_s, self.phase.seconds)
        self.refined_s = elapsed_s + rest_s
        self.log.write(Refined(self.refined_s, self.plan.steps.tokens / step_s))

    def _evaluate(self, global_step: int) -> None:
        began_s = time.monotonic()
        held_out = self.probes.measure_held_out()
        if held_out:
            seconds = time.monotonic() - began_s
            self.log.write(Evaluated(global_step, held_out.mean, held_out.rows, seconds))

    def _sample(self, global_step: int) -> None:
        with self.phase("sampling", total=self.plan.looks.sample_tokens, unit="tokens"):
            for sampled in samples(self.setup.forward, self.plan, global_step, self.pulse):
                self.log.write(sampled)
                append_line(self.folder.path / "samples.jsonl", msgspec.json.encode(sampled))

    def _save(self) -> None:
        self.saver.save(self.setup, self.ledger, self.before, self.stepper.no_gradient_yet)

    def _asked_to_stop(self) -> bool:
        limit = self.plan.max_time_s
        if limit and time.monotonic() - self.began_s > limit:
            self.stop.ask(MAX_TIME, Exit.COME_BACK)
        return bool(self.stop.by)

    def _out_of_time(self) -> bool:
        """Whether the step in flight must be dropped so that the save still fits in the grace."""
        return bool(self.stop.by) and self.stop.since_s() + self.saver.seconds > self.plan.grace_s

    # -- close -------------------------------------------------------------------------------

    def _close(self, outcome: Outcome, failure: Refusal | None) -> int:
        """Save what is done, measure what came of it, write the receipt."""
        if self.stop.by == MAX_TIME:  # a signal was told by the supervisor, who had it first
            self.log.write(StopAsked(self.stop.by))
        if self.ledger.job_step:
            try:
                self._save()
            except Refusal as refusal:
                failure, outcome = failure or refusal, "failed"
        after = self._measure_after(outcome)
        if outcome == "finished" and self.plan.looks.sample_steps:
            self._sample(self.plan.steps.last)
        peak = peak_memory_bytes(self.plan.machine.device)  # before the audit loads a second model
        tensors = self._audit() if outcome == "finished" else None
        with self.phase("writing the receipt"):
            receipt = self._receipt(outcome, failure, after, tensors, peak)
            receipt.save(self.folder.path)
            self._remember()
        code = self._exit_code(receipt, failure)
        finding = told(failure).findings[0] if failure else finding_of(receipt)
        self.log.write(Ended(receipt.outcome, int(code), receipt.line, finding))
        return code

    def _measure_after(self, outcome: Outcome) -> Losses | None:
        if not self.ledger.job_step or outcome == "failed":
            return None
        looked_s = sum(self.phase.seconds.get(name, 0.0) for name in ("probing", "evaluating"))
        if outcome == "interrupted" and self.stop.since_s() + looked_s > self.plan.grace_s:
            return None
        return self._measured("after")

    def _audit(self) -> TensorAudit:
        """Compare with the weights the job began with, made once more."""
        with self.phase("auditing the weights"):
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

    def _remember(self) -> None:
        """Keep this run's speed for the next plan of this shape on this machine."""
        seconds = self.ledger.attempt_seconds
        if len(seconds) < 5:
            return
        plan = self.plan
        key = speed_key(plan.model, plan.steps, plan.data, plan.machine, str(torch.__version__))
        remember(key, plan.steps.tokens / typical(seconds[1:]))
        if self.first_step_s:
            remember(f"startup|{torch.__version__}", self.first_step_s - seconds[0])

    def _exit_code(self, receipt: Receipt, failure: Refusal | None) -> Exit:
        if failure:
            return exit_code(failure)
        if receipt.contract.verdict == "broken":
            return Exit.BROKEN
        if receipt.outcome == "interrupted":
            return self.stop.code
        return Exit.BROKEN if receipt.learning.verdict == "not" else Exit.KEPT


def _ended_early(done: int, planned: int) -> BrokenContract:
    return BrokenContract(
        f"the rows ended after step {done}, and nobody asked to stop",
        have=f"{done} of {planned} steps",
        need="every planned step",
        remedies=(Remedy("the same command again", "goes on from the last save"),),
    )


def remember_process() -> None:
    """Keep how much memory the interpreter and its libraries take, for plans' peak memory."""
    remember(f"process|{torch.__version__}", peak_memory_bytes("cpu"))
