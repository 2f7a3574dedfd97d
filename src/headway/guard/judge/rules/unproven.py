"""Unproven training: a command that left no sign of training."""

from collections.abc import Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.units import count, plural
from headway.guard.judge.rules.remedies import count_batches
from headway.guard.judge.traces.case import Case
from headway.guard.judge.traces.intent import Purpose
from headway.guard.judge.traces.saved_models import num_models_unread


def unproven(case: Case) -> Iterator[Finding]:
    """A command named for training that showed no step and no loss.

    A silent one that saved a model is taken at its word; one that told of epochs alone is not.
    """
    told = [one for one in case.facts.records if one.is_of_training]
    is_seen = bool(case.curves) or any(one.step or one.loss is not None for one in told)
    is_saved = not told and (case.models or num_models_unread(case.facts.files))
    if case.intent.purpose is not Purpose.TRAIN or not case.ended_by_itself or is_seen or is_saved:
        return
    yield Finding(
        "warning",
        "nothing shows that it trained",
        have=f"{plural(case.facts.num_lines, 'line')} of output without a step or a loss,"
        f" {plural(len(case.models), 'model')} among {plural(len(case.facts.files), 'file')}",
        need="a loss or a step in its output",
        remedies=(
            Remedy("print('step', step, 'loss', loss.item())", "in the loop over batches"),
            *count_batches(case),
        ),
        cause=Cause.ENDED_EARLY,
    )


def stopped_short(case: Case) -> Iterator[Finding]:
    """A count that ended before its total, in a run that reports success."""
    if not case.ended_by_itself or any(one.has_early_stopping for one in case.written):
        return
    if case.written and (last := case.written[-1]).global_step < last.max_steps:
        yield Finding(
            "warning",
            f"stopped at step {count(last.global_step)} of {count(last.max_steps)}",
            have=f"{case.shown(last.path)}, and exit code 0",
            need="the steps that were planned, or a callback that ends it early on purpose",
            remedies=(
                Remedy("max_steps", "no more than the data has: a stream that ends, ends the run"),
            ),
            cause=Cause.ENDED_EARLY,
        )
