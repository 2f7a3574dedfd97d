"""HeadwayCallback for transformers' Trainer, and everything built on it.

    trainer = Trainer(..., callbacks=[HeadwayCallback()])

It checks the training before the first step and in each step, and changes nothing. Problems are
raised as errors (`strict=True`) or as warnings. The run is recorded in `output_dir`, where `headway
status`, `runs`, `logs`, `diagnose` and `verify` find it, and it ends with a receipt.
"""

import inspect
import shlex
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from headway.base.errors import (
    BrokenContract,
    Cause,
    MachineError,
    Refusal,
    Remedy,
    UsageError,
    four_parts,
)
from headway.base.events import Noted
from headway.base.units import plural
from headway.config.run_name import check_run_name, make_run_name
from headway.integrations.start_checks import (
    CHECKS,
    Problem,
    not_checked,
    plan_line,
    start_problems,
)
from headway.integrations.trainer_facts import StartFacts, read_facts
from headway.integrations.trainer_seams import Calling, TrainerSeams, find_trainer
from headway.integrations.trainer_watch import TrainerWatch
from headway.runs.watched.watched_receipt import WatchedReceipt
from headway.runs.watched.watched_run import WatchedRun, WatchedSteps
from headway.supervise.live.watched_job import WatchedJob

_UNKNOWN_TRAINER = (
    "losses, rows, tokens, and how it ends if it raises: what calls the callback is not a Trainer"
)


def _checked(name: str) -> str:
    try:
        return check_run_name(name)
    except ValueError as error:
        raise UsageError(
            "run_name cannot be the name of a run",
            cause=Cause.INVALID_VALUE,
            have=repr(name),
            need=str(error),
            remedies=(Remedy(f"HeadwayCallback(run_name={make_run_name(name)!r})"),),
        ) from None


def _broken(receipt: WatchedReceipt, folder: Path) -> BrokenContract:
    steps = receipt.steps
    return BrokenContract(
        receipt.contract.reasons[0],
        cause=Cause.CONTRACT_BROKEN,
        have=f"{steps.applied:,} of {plural(steps.planned, 'planned update')} applied",
        need="a run that does what was planned",
        remedies=(
            Remedy(f"headway logs {shlex.quote(str(folder))}", "what happened, line by line"),
            Remedy(f"headway verify {shlex.quote(str(folder))}", "the receipt, recomputed"),
        ),
    )


class HeadwayWarning(UserWarning):
    """A finding of Headway, as a message in four parts."""


class HeadwayCallback(TrainerCallback):
    """Headway's checks and receipt for a run of transformers' Trainer.

    Args:
        strict: raise an error if the run does not do what it should, before the first step or
            before an update is applied; otherwise only issue a `HeadwayWarning`. Problems found at
            the end are raised only if nothing was learned, so that raising loses nothing.
        output_dir: the folder for runs.
        run_name: name of the run; by default, the Trainer's `run_name`, or else the name of its
            output folder. A number is added if a run of this name exists.
        quiet: print neither the plan nor the closing line.

    Attributes:
        receipt: the receipt of the last run that ended; None before that.
        folder: the folder of the last run that was started; None before that.

    Raises:
        UsageError: `run_name` is not a valid name of a run.

    Example:
        trainer = Trainer(model, args, train_dataset=rows, callbacks=[HeadwayCallback()])
    """

    def __init__(
        self,
        *,
        strict: bool = True,
        output_dir: str | Path = "runs",
        run_name: str | None = None,
        quiet: bool = False,
    ) -> None:
        self.strict = strict
        self.output_dir = Path(output_dir)
        self.run_name = None if run_name is None else _checked(run_name)
        self.quiet = quiet
        self.receipt: WatchedReceipt | None = None
        self.folder: Path | None = None
        self._watch: TrainerWatch | None = None
        self._seams: TrainerSeams | None = None
        self._trainer: Any = None

    # -- events of the Trainer, in their order --------------------------------------------------

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Look at everything that is known before the first step.

        Raises:
            Refusal: with `strict`, if the run would do nothing or other than was meant.
        """
        began_s = time.monotonic()
        if self._watch is not None:
            self._watch.end_abandoned()
        calling = find_trainer(inspect.currentframe()) or Calling(None, "")
        facts = read_facts(args, state, calling.trainer, calling.checkpoint, parts)
        problems = start_problems(facts)
        for problem in problems:
            if self.strict and isinstance(problem, Refusal):
                raise problem
        if not state.is_world_process_zero:
            return
        for problem in problems:
            self._say(problem)
        job = self._open(args, facts, problems, calling)
        if job is None:
            return
        self._print(f"{job.run.name}: {plan_line(facts)}")
        self._trainer = calling.trainer
        self._watch = TrainerWatch(
            job,
            facts,
            parts["model"],
            self._report,
            on_end=self._on_end,
            said={problem.cause for problem in problems},
            not_seen=not_checked(facts) + (() if calling.trainer else (_UNKNOWN_TRAINER,)),
            spent_s=time.monotonic() - began_s,
        )
        if calling.trainer is not None:
            self._seams = TrainerSeams(calling.trainer, self._watch)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Look at a step before its update."""
        if self._watch is not None:
            scaler = getattr(getattr(self._trainer, "accelerator", None), "scaler", None)
            self._watch.before_update(parts["optimizer"], may_overflow=scaler is not None)

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Log a step after its update."""
        if self._watch is not None:
            accelerator = getattr(self._trainer, "accelerator", None)
            was_skipped = bool(getattr(accelerator, "optimizer_step_was_skipped", False))
            epoch = float(state.epoch or 0.0)
            self._watch.after_update(state.global_step, epoch, applied=not was_skipped)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Note whether the epoch had any batch."""
        if self._watch is not None and self._seams is not None:
            self._watch.epoch_ended()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Show that an evaluation makes progress."""
        if self._watch is not None:
            self._watch.beat()

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Any = None, **parts: Any
    ) -> None:
        """Log an evaluation."""
        if self._watch is not None:
            self._watch.evaluated(metrics or {}, state.global_step)

    def on_save(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Look at a checkpoint."""
        if self._watch is not None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            self._watch.saved(folder, state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Judge the run and write its receipt.

        Raises:
            BrokenContract: with `strict`, if nothing was learned.
        """
        watch = self._watch
        if watch is None:
            return
        watch.end_normally(state.global_step, stopped=bool(control.should_training_stop))
        receipt = watch.receipt
        if receipt is None or receipt.contract.verdict == "kept":
            return
        tensors = receipt.learning_facts.tensors
        problem = _broken(receipt, watch.job.folder)
        if self.strict and not (tensors.changed if tensors else receipt.steps.applied):
            raise problem
        self._say(problem)

    # -- parts ----------------------------------------------------------------------------------

    def _open(
        self, args: Any, facts: StartFacts, problems: list[Problem], calling: Calling
    ) -> WatchedJob | None:
        name = self.run_name or make_run_name(args.run_name or str(args.output_dir or "trainer"))
        findings = [p.finding() if isinstance(p, Refusal) else p for p in problems]
        run = WatchedRun(
            name=name,
            by="callback",
            program=facts.program,
            steps=WatchedSteps(facts.first, facts.planned),
            checked=tuple(CHECKS),
            not_checked=not_checked(facts),
            findings=tuple(findings),
            facts={"plan": plan_line(facts)},
        )
        try:
            job = WatchedJob(run, self.output_dir, Path(calling.checkpoint).name)
        except MachineError as error:
            self._report(error)
            return None
        self.folder = job.folder
        for finding in findings:
            job.log.write(Noted(finding))
        return job

    def _on_end(self) -> None:
        """Put the Trainer back as it was, and say how the run ended."""
        watch, seams = self._watch, self._seams
        self._watch = self._seams = self._trainer = None
        if seams is not None:
            seams.close()
        if watch is not None and watch.receipt is not None:
            self.receipt = watch.receipt
            self._print(watch.receipt.line)

    def _report(self, problem: Problem) -> None:
        if self.strict and isinstance(problem, Refusal):
            raise problem
        self._say(problem)

    def _say(self, problem: Problem) -> None:
        """Warn, where the user's own code is on the stack, not ours."""
        finding = problem.finding() if isinstance(problem, Refusal) else problem
        lines = four_parts(finding.what, finding.have, finding.need, finding.remedies)
        warnings.warn("\n".join(lines), HeadwayWarning, stacklevel=2)

    def _print(self, line: str) -> None:
        if not self.quiet:
            sys.stderr.write(f"headway: {line}\n")
            sys.stderr.flush()
