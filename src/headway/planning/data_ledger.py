"""What of the data is trained how often: the plan's side of the ledger."""

import numpy as np
from numpy.typing import NDArray

from headway.data.batching.rows import VANISHED, StoreRows
from headway.data.order import RowOrder, StoreOrder, StreamOrder
from headway.data.survey.store import summarize
from headway.runs.plan import DataPlan, RecordLedger, RowLedger, StepsPlan, StreamPlan


def account(
    sources: tuple[str, ...],
    rows: StoreRows,
    order: StoreOrder | StreamOrder,
    steps: StepsPlan,
    stream: StreamPlan | None,
) -> DataPlan:
    """The data's part of the plan. Counts of a sample are told as those of the whole, about."""
    survey = rows.store.survey
    lengths = rows.lengths()
    real = int(lengths.sum())
    ledger = _row_ledger(rows, order, steps)
    times = (survey.sampled.scale or 1.0) if survey.sampled else 1.0
    return DataPlan(
        kind=survey.kind,
        sources=sources,
        store=str(rows.store.folder),
        fingerprint=survey.fingerprint,
        tokenizer=survey.tokenizer,
        tokenizer_from=survey.tokenizer_from,
        template=survey.template,
        records=_records(rows, times),
        rows=ledger,
        bytes=round(survey.bytes * times),
        tokens=round(survey.tokens * times),
        trained_tokens=round(rows.trained() * times),
        lengths=summarize(lengths),
        max_length=rows.max_length,
        truncated=round(rows.num_truncated * times),
        padding_to_max=1 - real / (len(lengths) * rows.max_length),
        padding_to_longest=padding_to_longest(order, lengths),
        padding=0.0,
        untrained=1 - rows.trained() / real,
        marked_example=survey.marked_example,
        duplicates=round(survey.duplicates * times),
        shapes=tuple(survey.shapes),
        notes={note: round(num * times) for note, num in survey.notes.items()},
        contents=survey.contents,
        stream=stream,
    )


def _row_ledger(rows: StoreRows, order: StoreOrder | StreamOrder, steps: StepsPlan) -> RowLedger:
    applications = order.rows_in(steps.num)
    planned = min(applications, order.rows_per_epoch)
    held_out = order.num_held_out
    sampled = rows.store.survey.sampled
    if sampled and not sampled.scale:
        accepted = held_out + planned  # nobody knows how many more there are
    else:
        accepted = held_out + order.rows_per_epoch
    return RowLedger(
        accepted=accepted,
        held_out=held_out,
        planned=planned,
        not_planned=accepted - held_out - planned,
        applications=applications,
        row_sum=order.row_sum(steps.num),
    )


def _records(rows: StoreRows, times: float) -> RecordLedger:
    """Read = accepted + rejected; a conversation that loses its whole answer is rejected too."""
    survey = rows.store.survey
    rejected = {reason: round(num * times) for reason, num in survey.records_rejected.items()}
    if rows.num_vanished:
        rejected[VANISHED] = round(rows.num_vanished * times)
    accepted = round((survey.records_accepted - rows.num_vanished) * times)
    return RecordLedger(accepted + sum(rejected.values()), rejected, accepted)


def padding_to_longest(order: RowOrder, lengths: NDArray[np.int64]) -> float:
    """Share of the work if each batch were padded to its longest row, over one epoch at most."""
    real = padded = 0
    for step in range(1, min(order.steps_per_epoch, 200) + 1):
        batch = lengths[order.rows(step)[1] % len(lengths)]  # of a flow only a sample is known
        real += int(batch.sum())
        padded += int(batch.max()) * len(batch)
    return 1 - real / padded
