"""Zero steps: commands that report success and trained nothing, and why."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, Finding
from headway.base.foreign.trainer_state import TrainerState
from headway.base.units import count, plural, seconds
from headway.guard.facts import ProgressRecord
from headway.guard.judge.rules.remedies import count_batches, train_from
from headway.guard.judge.traces.case import Case
from headway.guard.judge.traces.intent import Purpose

_NO_STEPS_A_SECOND = re.compile(r"train_steps_per_second\W{1,5}0(\.0*)?\b(?!\.?\d)")
_EMPTY = re.compile(
    r"There seems not to be a single sample in your epoch_iterator|stopped: No training batches|"
    r"Total length of .{0,60} is zero"
)


def zero_steps(case: Case) -> Iterator[Finding]:
    """A command that ended as if it had trained, without one step."""
    if not case.ended_by_itself or case.intent.purpose is Purpose.PREPARE:
        return
    sign = _sign(case)
    if not sign:
        return
    origin = _origin(case)
    if origin is not None:
        yield _behind_target(case, origin, sign)
    else:
        yield _without_cause(case, sign)


def _sign(case: Case) -> str:
    """What shows that no step was done; "" if one may have been."""
    if case.curves:
        return ""
    closing = next((r for r in reversed(case.facts.records) if r.run_seconds is not None), None)
    return _sign_of_trainer(case, closing) or (
        "" if _has_stepped(case) else _sign_of_output(case, closing)
    )


def _sign_of_trainer(case: Case, closing: ProgressRecord | None) -> str:
    """What a Trainer says itself. An evaluation's bar looks the same, but does not count steps."""
    if case.written:
        last, before = case.written[-1], case.resumed_from
        same = before is not None and last.global_step == before.global_step
        if last.ended_without_steps or same:
            return f"{case.shown(last.path)} is still at step {count(last.global_step)}"
    if closing and not closing.loss and any(_NO_STEPS_A_SECOND.search(one) for one in case.lines):
        return f"it trained for {seconds(closing.run_seconds or 0.0)}, at 0 steps a second"
    return ""


def _sign_of_output(case: Case, closing: ProgressRecord | None) -> str:
    """What the output of any program tells, where nothing in it shows a step."""
    if found := next((line for line in case.lines if _EMPTY.search(line)), ""):
        return f"it said: {hide_credentials(found.strip())[:160]}"
    bar = next((one for one in case.facts.records if _is_training_bar(one)), None)
    if bar and (case.intent.purpose is Purpose.TRAIN or closing):
        return "its progress bar stayed at 0" + (f" of {count(bar.total)}" if bar.total else "")
    if closing and closing.loss == 0:
        return "it ended with a loss of 0.0, and logged no step"
    return ""


def _has_stepped(case: Case) -> bool:
    """Whether anything shows a step: a bar that moved, a numbered checkpoint."""
    # A checkpoint is saved after a step, in whatever way it is numbered.
    if any(any(model.numbers) for model in case.models):
        return True
    return any(one.step and one.is_of_training for one in case.facts.records)


def _is_training_bar(one: ProgressRecord) -> bool:
    return one.is_of_training and one.is_bar and one.step == 0


def _origin(case: Case) -> TrainerState | None:
    """The state that explains it: one at or past the target, the known one or the newest."""
    if any(_EMPTY.search(line) for line in case.lines):
        return None  # there was nothing to train on, whatever the target
    total = _total(case) or (case.written[-1].max_steps if case.written else 0)
    if case.resumed_from:
        return case.resumed_from if case.resumed_from.global_step >= total else None
    fitting = [one for one in case.earlier if one.global_step >= (total or one.max_steps) > 0]
    return fitting[-1] if fitting else None


def _total(case: Case) -> int:
    """The target of this command's own bar; 0 if it had none."""
    bars = (one for one in case.facts.records if _is_training_bar(one))
    return next((bar.total for bar in bars if bar.total), 0)


@dataclass(frozen=True)
class _Target:
    """What the command was to reach.

    Attributes:
        steps: its target, 0 if unknown.
        text: in words.
    """

    steps: int
    text: str


def _target(case: Case, origin: TrainerState) -> _Target:
    steps = _total(case)
    if not steps and case.written:
        steps = case.written[-1].max_steps
    epochs = case.intent.number("num_train_epochs", "num_epochs", "epochs")
    if not epochs and case.written:
        epochs = case.written[-1].num_train_epochs
    if case.intent.number("max_steps"):
        return _Target(steps, f"max_steps of this command leads to step {count(steps)}")
    if not steps:
        return _Target(0, "if it resumed from there, its target is not beyond that step")
    of_epochs = f"num_train_epochs {epochs:g}" if epochs else "num_train_epochs"
    if origin.max_steps == steps:
        return _Target(steps, f"the target of this command is step {count(steps)} too")
    return _Target(steps, f"{of_epochs} over this command's data leads to step {count(steps)}")


def _behind_target(case: Case, origin: TrainerState, sign: str) -> Finding:
    """The finding about a run that was resumed at or past its target."""
    folder = case.shown(origin.path.parent)
    target = _target(case, origin)
    stands = f"{folder} is at step {count(origin.global_step)}"
    if origin.num_train_epochs and origin.steps_per_epoch:
        epochs = plural(round(origin.epoch), "epoch") if origin.epoch >= 1 else "part of an epoch"
        stands += f", {epochs} of {count(origin.steps_per_epoch)} steps"
    return Finding(
        "refused",
        "finished without training: 0 steps",
        have=f"{sign}\n{stands}; {target.text}",
        need=f"a target beyond step {count(origin.global_step)}: Trainer counts steps from the"
        " first run on, but num_train_epochs over the data of this one alone",
        remedies=train_from(case, origin.path.parent, target.steps),
        cause=Cause.ENDED_EARLY,
    )


def _without_cause(case: Case, sign: str) -> Finding:
    """The finding about a run that did nothing for a reason that left no trace."""
    return Finding(
        "refused",
        "finished without training: 0 steps",
        have=sign,
        need="at least one batch: rows left after filters, at least a whole batch of them if the"
        " last one is dropped, and a target beyond the step it resumed at",
        remedies=count_batches(case),
        cause=Cause.ENDED_EARLY,
    )
