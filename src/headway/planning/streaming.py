"""How data is read that is too large to be read first: about how many rows, in what windows."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import msgspec

from headway.base.errors import Finding, Remedy, UsageError
from headway.base.files import hash_bytes
from headway.base.units import share
from headway.config.settings import Settings
from headway.data.batching.rows import StoreRows
from headway.data.examples.maker import ExampleOptions
from headway.data.order import StoreOrder, StreamOrder
from headway.data.sources.source import Source
from headway.data.stream.spec import StreamFile, load_stream, save_stream
from headway.data.stream.stream import StreamSpec
from headway.data.survey.store import id_dtype
from headway.planning.sizing import ENDLESS, Notes
from headway.runs.plan import Plan, StreamPlan

_WINDOW_TOKENS = 1 << 19  # some two megabytes of text: less than a second for a tokenizer


def num_rows(rows: StoreRows) -> int:
    """Full rows of the data; about, where only a sample was read."""
    sampled = rows.store.survey.sampled
    if sampled is None:
        return rows.num_full
    return round(rows.num_full * sampled.scale) if sampled.scale else ENDLESS


def order_of(
    settings: Settings, rows: StoreRows, num_full: int, held_out: int, batch_size: int, notes: Notes
) -> StoreOrder | StreamOrder:
    """Which rows make which step.

    Raises:
        UsageError: nobody can know when a stream without a size would end.
    """
    sampled = rows.store.survey.sampled
    if sampled is None:
        return StoreOrder(settings.seed, num_full, rows.has_short, held_out, batch_size)
    if not sampled.scale and not (settings.max_steps or settings.max_tokens):
        raise _without_end()
    if settings.drop_duplicates:
        raise _not_dropped(sampled.whole)
    if sampled.scale:
        what = f"too large to read first: {share(sampled.bytes, sampled.whole)} of it was"
        have = f"counts are about right, tokens within {share(sampled.error)}"
        notes.findings.append(Finding("ok", what, have))
    mean = float(rows.lengths()[: rows.num_full].mean())
    return StreamOrder(
        seed=settings.seed,
        num_held_out=held_out,
        batch_size=batch_size,
        steps_per_window=max(1, round(_WINDOW_TOKENS / (batch_size * mean))),
        rows_per_epoch=num_full - held_out,
    )


def flow_of(rows: StoreRows, order: StoreOrder | StreamOrder) -> StreamPlan | None:
    """The part of the plan that says how a flow is read; its folder comes with `prepare`."""
    sampled = rows.store.survey.sampled
    if sampled is None or isinstance(order, StoreOrder):
        return None
    return StreamPlan("", order.steps_per_window, sampled)


def prepare(
    plan: Plan, settings: Settings, found: Sequence[Source], options: ExampleOptions, cache: Path
) -> Plan:
    """Write what the reader of a flow has to know; the plan then says where that is.

    Raises:
        MachineError: the cache takes no file.
    """
    if plan.data.stream is None:
        return plan
    shape = StreamSpec(
        kind=plan.data.kind,
        max_length=plan.data.max_length,
        truncation=settings.truncation,
        window_rows=plan.steps.batch_size * plan.data.stream.steps_per_window,
        held_out=plan.data.rows.held_out,
        seed=plan.seed,
        max_rejected=settings.max_rejected,
        dtype=id_dtype(plan.model.vocab_size),
    )
    stamps = [(s.name, s.size, s.stamp) for s in found]
    same = (stamps, plan.data.fingerprint, plan.data.tokenizer, plan.data.template, shape)
    folder = cache / f"flow-{hash_bytes(msgspec.json.encode(same))}"
    store = str(Path(plan.data.store).absolute())
    save_stream(folder, StreamFile(_absolute(found), options, store, shape, _day(folder)))
    return replace(
        plan, data=replace(plan.data, stream=replace(plan.data.stream, folder=str(folder)))
    )


def _day(folder: Path) -> str:
    """The day of a flow that was planned before, else today."""
    try:
        return load_stream(folder).day
    except (OSError, msgspec.MsgspecError):
        return date.today().isoformat()


def _absolute(found: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(replace(s, path=s.path.absolute()) if s.path else s for s in found)


def _without_end() -> UsageError:
    return UsageError(
        "nobody can say when this data ends",
        have="a source that does not tell its size, and no number of steps",
        need="how long to train on it",
        remedies=(
            Remedy("--max-steps 1000", "so many steps"),
            Remedy("--max-tokens 10M", "so many trained tokens"),
        ),
    )


def _not_dropped(whole: int) -> UsageError:
    return UsageError(
        "duplicates are found only in data that is read whole",
        have="drop_duplicates, and data larger than survey_exact",
        need="one or the other",
        remedies=(
            Remedy(f"--survey-exact {max(whole, 1)}", "reads all of it before step 1"),
            Remedy("leave out --drop-duplicates"),
        ),
    )
