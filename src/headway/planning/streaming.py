"""Stream planning: the row order, and the input file of the reader process."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from headway.base.errors import Cause, Finding, Remedy, UsageError
from headway.base.files import hash_bytes
from headway.base.units import share, size
from headway.config.settings import Settings
from headway.data.batching.rows import StoreRows
from headway.data.examples.maker import ExampleOptions
from headway.data.order import StoreOrder
from headway.data.sources.source import Source
from headway.data.stream.spec import StreamFile, StreamSpec, save_stream
from headway.data.survey.result import SurveySample
from headway.data.survey.store import id_dtype
from headway.planning.decision import Decision
from headway.planning.sizing import HeldOut
from headway.runs.plan import Plan

_VERSION = 2  # of the windows in the cache


def decide_order(
    settings: Settings,
    rows: StoreRows,
    num_full: int,
    held_out: HeldOut,
    batch_size: int,
) -> Decision[StoreOrder]:
    """Which rows make which step; for a stream, an estimate of how many there are.

    Args:
        settings: seed, and how long to train.
        rows: of the data, or of its sample.
        num_full: full rows of the data, about if only a sample was read.
        held_out: of these.
        batch_size: rows of a step.

    Raises:
        UsageError: a stream has no known end, or duplicates are to be dropped from a stream.
    """
    sampled = rows.store.survey.sampled
    has_short = rows.has_short and sampled is None
    order = StoreOrder(settings.seed, num_full, has_short, held_out.num, batch_size)
    if sampled is None:
        allowed = held_out.allowed
        return Decision(order if allowed is None else order.holding_out_only(allowed))
    _check_stream(settings, sampled)
    if not sampled.scale:
        return Decision(order)
    finding = Finding(
        "ok",
        f"too large to read in full first: {share(sampled.bytes, sampled.whole)} was sampled",
        f"counts are estimates, tokens within {share(sampled.error)}",
    )
    return Decision(order, findings=(finding,))


def _check_stream(settings: Settings, sampled: SurveySample) -> None:
    if not sampled.scale and not (settings.max_steps or settings.max_tokens):
        raise _unbounded()
    if settings.reduction == "hsdp" and settings.nproc > 1:
        raise _not_in_shards(sampled.whole, settings.nproc)
    if settings.drop_duplicates:
        raise _cannot_drop_duplicates(sampled.whole)


def _not_in_shards(num_bytes: int, workers: int) -> UsageError:
    return UsageError(
        "a model in shards trains data that is read in full first",
        cause=Cause.CONTRADICTION,
        have=f"--reduction hsdp --nproc {workers}, and {size(num_bytes)} that are streamed",
        need="the data in the cache before step 1, or the whole model in each worker",
        remedies=(
            Remedy(f"--survey-exact {max(num_bytes, 1)}", "reads all of it before step 1"),
            Remedy("--reduction tree", "the whole model in each worker"),
        ),
    )


def write_stream_spec(
    plan: Plan,
    settings: Settings,
    sources: Sequence[Source],
    options: ExampleOptions,
    cache: Path,
) -> Plan:
    """Write what the reader of a stream must know.

    Args:
        plan: unchanged if its data was read in full.
        settings: truncation and max_rejected.
        sources: as they were found.
        options: how their records become examples.
        cache: where the stream gets a folder.

    Returns:
        The plan with the stream's folder.

    Raises:
        MachineError: the cache cannot be written.
    """
    data, stream = plan.data, plan.data.stream
    if stream is None:
        return plan
    spec = StreamSpec(
        kind=data.kind,
        max_length=data.max_length,
        truncation=settings.truncation,
        batch_size=plan.steps.batch_size,
        steps_per_window=stream.steps_per_window,
        held_out=data.rows.held_out,
        seed=plan.seed,
        max_rejected=settings.max_rejected,
        dtype=id_dtype(plan.model.vocab_size),
    )
    stamps = [(s.name, s.size, s.stamp) for s in sources]
    rendered = (data.template, data.template_day)
    key = (_VERSION, stamps, data.fingerprint, data.tokenizer, rendered, spec)
    folder = cache / f"stream-{hash_bytes(msgspec.json.encode(key))}"
    store = str(Path(data.store).absolute())
    save_stream(folder, StreamFile(_absolute(sources), options, store, spec))
    return replace(plan, data=replace(data, stream=replace(stream, folder=str(folder))))


def _absolute(sources: Sequence[Source]) -> tuple[Source, ...]:
    return tuple(replace(s, path=s.path.absolute()) if s.path else s for s in sources)


def _unbounded() -> UsageError:
    return UsageError(
        "the size of this data is unknown",
        cause=Cause.UNBOUNDED_STREAM,
        have="a source of unknown size, and no number of steps",
        need="how long to train",
        remedies=(
            Remedy("--max-steps 1000", "1,000 steps"),
            Remedy("--max-tokens 10M", "10 million trained tokens"),
        ),
    )


def _cannot_drop_duplicates(num_bytes: int) -> UsageError:
    return UsageError(
        "duplicates can only be dropped from data that is read in full",
        cause=Cause.CONTRADICTION,
        have="drop_duplicates, and data larger than survey_exact",
        need="one or the other",
        remedies=(
            Remedy(f"--survey-exact {max(num_bytes, 1)}", "reads all of it before step 1"),
            Remedy("leave out --drop-duplicates"),
        ),
    )
