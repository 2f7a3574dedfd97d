"""Data ledger: how many times each part of the data is planned to be trained."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from headway.base import units
from headway.base.errors import Finding, Refusal, Remedy
from headway.config.settings import Settings
from headway.data.batching.replay import replay_totals
from headway.data.batching.rows import StoreRows
from headway.data.examples.notes import LOST, ExampleNote
from headway.data.formats.records import Rejected, RejectReason
from headway.data.order import StoreOrder
from headway.data.replay_plan import ReplayPlan, ReplaySource
from headway.data.survey.result import Lengths
from headway.data.survey.store import Store, summarize
from headway.planning.decision import Decision
from headway.planning.step_layout import StepLayout
from headway.runs.archive.replayed import replay_source
from headway.runs.folder import RunFolder
from headway.runs.identity import identity_of
from headway.runs.plan import (
    DataPlan,
    ModelPlan,
    Parent,
    Plan,
    RecordLedger,
    RowLedger,
    StreamPlan,
)

_WINDOW_TOKENS = 1 << 19  # about 2 MB of text: less than a second to tokenize
_PADDING_STEPS = 200  # to estimate the padding from
_PLACES_SHOWN = 3  # of rejected records
_MOST_REPLAYED = 100  # runs whose rows are replayed; of more, every second, fourth, ...


@dataclass(frozen=True)
class RowStatistics:
    """Sizes of the rows of the data, or of its sample.

    Attributes:
        lengths_R: (num_rows,) input tokens of each row.
        lengths: their summary.
        num_tokens: input tokens of all rows.
        num_trained: trained tokens of all rows.
        mean_full_tokens: input tokens of a full row, on average.
    """

    lengths_R: NDArray[np.int64]
    lengths: Lengths
    num_tokens: int
    num_trained: int
    mean_full_tokens: float

    @property
    def untrained(self) -> float:
        """Share of the input tokens without a trained target."""
        return 1 - self.num_trained / self.num_tokens


def row_statistics(rows: StoreRows) -> RowStatistics:
    """Measure the rows; there must be a full one."""
    lengths_R = rows.lengths()
    return RowStatistics(
        lengths_R=lengths_R,
        lengths=summarize(lengths_R),
        num_tokens=int(lengths_R.sum()),
        num_trained=rows.num_trained(),
        mean_full_tokens=float(lengths_R[: rows.num_full].mean()),
    )


def data_plan(
    sources: tuple[str, ...],
    rows: StoreRows,
    statistics: RowStatistics,
    order: StoreOrder,
    num_steps: int,
    layout: StepLayout,
) -> DataPlan:
    """The data's part of the plan. Counts of a sample are scaled to the whole.

    Args:
        sources: as typed.
        rows: of the data, or of its sample.
        statistics: of the rows.
        order: which rows make which step.
        num_steps: steps of the run.
        layout: what the rows of a step share.
    """
    survey = rows.store.survey
    scale = (survey.sampled.scale or 1.0) if survey.sampled else 1.0
    padded = len(statistics.lengths_R) * rows.max_length
    return DataPlan(
        kind=survey.kind,
        sources=sources,
        store=str(rows.store.folder),
        fingerprint=survey.fingerprint,
        tokenizer=survey.tokenizer,
        tokenizer_from=survey.tokenizer_from,
        template=survey.template,
        records=_record_ledger(rows, scale),
        rows=_row_ledger(rows, order, num_steps),
        bytes=round(survey.bytes * scale),
        tokens=round(survey.tokens * scale),
        trained_tokens=round(statistics.num_trained * scale),
        lengths=statistics.lengths,
        max_length=rows.max_length,
        truncated=round(rows.num_truncated * scale),
        padding_to_max=1 - statistics.num_tokens / padded,
        padding_to_longest=padding_to_longest(order, statistics.lengths_R),
        padding=0.0,
        untrained=statistics.untrained,
        marked_example=survey.marked_example,
        duplicates=round(survey.duplicates * scale),
        shapes=tuple(survey.shapes),
        notes={note: round(num * scale) for note, num in survey.notes.items()},
        contents=survey.contents,
        stream=_stream_plan(rows, order, statistics),
        shared=layout.shared,
        not_shared=layout.not_shared,
        template_day=survey.template_day,
        examples=survey.examples,
        twin_places=order.passed_over,
        begin_id=survey.begin_id,
        passed_over=survey.passed_over,
    )


def _stream_plan(
    rows: StoreRows, order: StoreOrder, statistics: RowStatistics
) -> StreamPlan | None:
    """How a stream is read; its folder is known once `write_stream_spec` has made it."""
    sampled = rows.store.survey.sampled
    if sampled is None:
        return None
    tokens_per_step = order.batch_size * statistics.mean_full_tokens
    steps_per_window = max(1, round(_WINDOW_TOKENS / tokens_per_step))
    return StreamPlan("", steps_per_window, sampled)


def _row_ledger(rows: StoreRows, order: StoreOrder, num_steps: int) -> RowLedger:
    applications = order.rows_in(num_steps)
    planned = min(applications, order.rows_per_epoch)
    held_out = order.num_held_out
    sampled = rows.store.survey.sampled
    if sampled and not sampled.scale:
        accepted = held_out + planned  # the rest is unknown
    else:
        accepted = held_out + order.rows_per_epoch
    return RowLedger(
        accepted=accepted,
        held_out=held_out,
        planned=planned,
        not_planned=accepted - held_out - planned,
        applications=applications,
        row_sum=0 if sampled else order.row_sum(num_steps),  # a stream's rows are not known yet
    )


def _record_ledger(rows: StoreRows, scale: float) -> RecordLedger:
    """Read = accepted + rejected; a conversation that loses its whole answer is rejected too."""
    survey = rows.store.survey
    rejected = {reason: round(num * scale) for reason, num in survey.records_rejected.items()}
    if rows.num_without_answer:
        rejected[RejectReason.NO_ANSWER_LEFT] = round(rows.num_without_answer * scale)
    accepted = round((survey.records_accepted - rows.num_without_answer) * scale)
    return RecordLedger(accepted + sum(rejected.values()), rejected, accepted)


def padding_to_longest(order: StoreOrder, lengths_R: NDArray[np.int64]) -> float:
    """Share of the work if each batch were padded to its longest row.

    Args:
        order: which rows make which step.
        lengths_R: (num_rows,) input tokens of each row.
    """
    order = order.of_sample(len(lengths_R))
    num_tokens = num_padded = 0
    for step in range(1, min(order.steps_per_epoch, _PADDING_STEPS) + 1):
        batch = lengths_R[order.rows(step)[1]]
        num_tokens += int(batch.sum())
        num_padded += int(batch.max()) * len(batch)
    return 1 - num_tokens / num_padded


# ---- findings ----------------------------------------------------------------------------------


def advise_data(
    settings: Settings, data: DataPlan, model: ModelPlan, store: Store
) -> Decision[None]:
    """What to expect of this data.

    Args:
        settings: as given.
        data: the data's part of the plan.
        model: to be trained.
        store: what was read of the data.
    """
    findings: list[Finding] = []
    tokens = data.trained_tokens
    if model.source == "preset" and tokens < model.parameters:
        weights = units.short_count(model.parameters)
        smaller = "or a smaller --preset, or --model with a model that knows the language"
        findings.append(
            Finding(
                "warning",
                f"{units.count(tokens)} tokens for {weights} weights: it will repeat your text",
                f"{tokens / model.parameters:.2g} tokens per weight",
                "about 20 per weight to write new text",
                (Remedy("more text", smaller),),
            )
        )
    if data.records.rejected:
        findings.append(_rejected(data.records, store.rejected(_PLACES_SHOWN)))
    findings += [_loss(note, data.notes[note]) for note in LOST if note in data.notes]
    if num := data.notes.get(ExampleNote.WITHOUT_END):
        findings.append(_without_end(num))
    if settings.test:
        findings.append(Finding("ok", "test run: at most 20 steps and two minutes"))
    return Decision(None, findings=tuple(findings))


def _rejected(records: RecordLedger, first: list[Rejected]) -> Finding:
    num = sum(records.rejected.values())
    places = ", ".join(f"{one.file}:{one.line}" for one in first)
    shown = f"; the first: {places}" if num > len(first) else f": {places}"
    return Finding(
        "warning",
        f"{units.plural(num, 'record')} of {records.read:,} rejected",
        ", ".join(f"{one:,} {reason}" for reason, one in records.rejected.items())
        + (shown if first else ""),
        "",
        (Remedy("rejected.jsonl in the run's folder", "each with file, line and reason"),),
    )


def _loss(note: ExampleNote, num: int) -> Finding:
    return Finding(
        "warning",
        f"{units.count(num)} {note}",
        "a chat template without a place for them: they are not in the text",
        "a template that writes what is to be learned",
        (Remedy("--model DIR", "a model whose template does"),),
    )


def _without_end(num: int) -> Finding:
    return Finding(
        "warning",
        f"{units.count(num)} {ExampleNote.WITHOUT_END}",
        "what they teach does not include where to stop",
        "a turn after them, whose first token ends the answer, or a template that writes an end",
        (Remedy("--model DIR", "a model whose template ends each answer"),),
    )


# ---- rows to replay ----------------------------------------------------------------------------


def with_replay(plan: Plan, settings: Settings) -> Plan:
    """The plan with rows of the runs that it continues, if any are to be replayed."""
    if not settings.replay:
        return plan
    if plan.data.stream:
        finding = Finding("warning", "no row is replayed: the data is streamed")
        return replace(plan, findings=(*plan.findings, finding))
    sources: list[ReplaySource] = []
    findings: list[Finding] = []
    runs = list(_ancestors(plan.model.parent))[::-1]
    while len(runs) > _MOST_REPLAYED:
        runs = runs[::2]
    for run in runs:
        try:
            source = replay_source(run, plan.data.max_length)
        except (OSError, EOFError, ValueError, Refusal) as error:
            source, why = None, (str(error) or type(error).__name__).splitlines()[0]
        else:
            why = f"none fits max_length {plan.data.max_length:,}"
        if source:
            sources.append(source)
        else:
            findings.append(Finding("warning", f"no row of {run.name} is replayed", why))
    if not sources:
        findings.append(Finding("ok", "nothing to replay: no earlier run has kept rows"))
        return replace(plan, findings=(*plan.findings, *findings))
    found = ReplayPlan(settings.replay, plan.steps.batch_size, plan.seed, tuple(sources))
    num_rows, row_sum = replay_totals(found, plan.steps.num)
    found = replace(found, num_rows=num_rows, row_sum=row_sum)
    plan = replace(plan, replay=found, findings=(*plan.findings, *findings))
    return replace(plan, identity=identity_of(plan))


def _ancestors(parent: Parent | None) -> Iterator[Path]:
    """The runs that a model has come through, the newest first."""
    while parent:
        run = Path(parent.checkpoint).parent
        yield run
        plan = RunFolder(run).plan()
        parent = plan.model.parent if plan else None
