"""Skipped rows: a resumed Trainer that fast-forwarded through data it had never seen."""

from collections.abc import Iterator

from headway.base.errors import Cause, Finding
from headway.base.units import count, plural
from headway.guard.judge.rules.remedies import train_from
from headway.guard.judge.traces.case import Case

_SAME = 0.02  # of the steps of an epoch: they are computed from fractions of epochs


def skipped_rows(case: Case) -> Iterator[Finding]:
    """Steps of new data that were skipped, because a Trainer skips what it counts as done.

    Data are others if they make another number of steps an epoch with the same batch size.
    """
    before = case.resumed_from
    if before is None or not case.written or case.written[-1].global_step <= before.global_step:
        return
    after = case.written[-1]
    old, new = before.steps_per_epoch, after.steps_per_epoch
    is_same_data = abs(old - new) <= max(1, _SAME * max(old, new))
    if not old or not new or is_same_data or before.batch_size != after.batch_size:
        return
    skipped = before.global_step % new
    if not skipped:
        return
    yield Finding(
        "warning",
        f"the first {plural(skipped, 'step')} of the data were skipped",
        have=f"{case.shown(before.path.parent)} was made with {count(old)} steps an epoch, this"
        f" command's data have {count(new)}; resuming at step {count(before.global_step)} skips"
        f" {plural(skipped, 'step')} of them",
        need="a run that begins with the first row, if these data are new",
        remedies=train_from(case, before.path.parent, new),
        cause=Cause.DATA_CHANGED,
    )
