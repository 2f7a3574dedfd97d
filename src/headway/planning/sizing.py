"""Row length, held-out rows, batch size and number of steps.

What was asked for is adjusted where the data or the model cannot take it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headway.base import units
from headway.base.errors import Cause, DataRefused, Finding, Refusal, Remedy
from headway.config.settings import Settings
from headway.config.values import FEW
from headway.data.batching.rows import StoreRows
from headway.data.order import StoreOrder
from headway.data.survey.store import Store
from headway.planning.data_ledger import RowStatistics
from headway.planning.decision import Decision, adjusted, auto
from headway.runs.plan import Choice

TEXT_LENGTH = 256  # tokens of a text row, training from scratch
TEXT_LENGTH_TRAINED = 1024  # ... with a trained model
UNKNOWN_NUM_ROWS = 1 << 40  # rows of a stream of unknown size
_MAX_WITHOUT_ANSWER = 0.01  # share of the conversations that may lose their answers
_TEST_STEPS = 20
_MOST_OF_FEW, _ONE_IN = 8, 50  # rows that `val_size: few` holds out


def decide_max_length(
    settings: Settings, store: Store, context: int, *, from_scratch: bool
) -> Decision[int]:
    """The `max_length`: as given, or from the data.

    Args:
        settings: max_length, or None for auto.
        store: the data.
        context: the longest sequence the model takes; 0 if it has no limit.
        from_scratch: the model has no weights yet.
    """
    context = context or 1 << 30
    given = settings.max_length
    if given and given > context:
        return adjusted(
            settings,
            "max_length",
            context,
            f"max_length lowered to {context:,}, the model's context length",
            asked=given,
            have=f"max_length {given:,}",
            need=f"at most {context:,}",
            remedies=(Remedy(f"--max-length {context}"),),
        )
    if given and not _must_refit(settings, store, given):
        return Decision(given)
    if store.survey.kind == "text":
        return _decide_text_length(settings, store, context, from_scratch=from_scratch)
    longest = store.survey.lengths.max
    length = min(_power_of_two_above(longest, 64), context)
    noun = "conversation" if store.survey.kind == "conversations" else "record"
    reason = (
        f"holds the longest {noun} ({longest:,} tokens)"
        if longest <= length
        else f"the model's context length; the longest {noun} has {longest:,} tokens"
    )
    return Decision(length, (_fitted(settings, length, reason),))


def _must_refit(settings: Settings, store: Store, length: int) -> bool:
    """Whether a length that was taken over from another run does not suit this data.

    A text that is shorter than one row has no row of that length. A length that held the longest
    conversation there, and that nobody asked for, would cut a longer one here.
    """
    by = settings.inherited.get("max_length")
    if by and store.survey.kind == "text":
        return _num_targets(store) < length
    return by == "planner" and store.survey.lengths.max > length


def _fitted(settings: Settings, length: int, reason: str, usual: int | None = None) -> Choice:
    """The choice of a length that this data makes; the next run can still take the usual one."""
    given = settings.max_length
    before = f"; {given:,} in {settings.origin('max_length')}" if given else ""
    by = settings.inherited.get("max_length")
    return Choice("max_length", length, "auto", reason + before, given or usual, by)


def _decide_text_length(
    settings: Settings, store: Store, context: int, *, from_scratch: bool
) -> Decision[int]:
    usual = TEXT_LENGTH if from_scratch else min(TEXT_LENGTH_TRAINED, context)
    num_targets = _num_targets(store)
    if num_targets >= usual and not settings.max_length:
        weights = "training from scratch" if from_scratch else "starting from trained weights"
        return Decision(usual, (auto("max_length", usual, f"usual for text, {weights}"),))
    length = max(2, 1 << max(num_targets.bit_length() - 1, 0))
    reason = f"the text has {num_targets + 1:,} tokens"
    return Decision(length, (_fitted(settings, length, reason, usual),))


def _num_targets(store: Store) -> int:
    return int(np.maximum(np.diff(store.starts) - 1, 0).sum())


def _power_of_two_above(value: int, minimum: int) -> int:
    return max(minimum, 1 << max(value - 1, 1).bit_length())


# ---- rows --------------------------------------------------------------------------------------


def check_rows(rows: StoreRows, settings: Settings, context: int) -> Decision[None]:
    """Refuse data without a full row, or whose answers are cut off; report truncation.

    Args:
        rows: of the data.
        settings: truncation.
        context: the longest sequence the model takes; 0 if it has no limit.

    Raises:
        DataRefused: there is no full row, or `max_length` cuts off answers.
    """
    store = rows.store
    if store.survey.kind == "text" and not rows.num_full:
        raise _too_short(rows, _num_targets(store))
    longest = store.survey.lengths.max
    whole = _power_of_two_above(longest, 64)  # the length that keeps every conversation whole
    fits = not context or whole <= context
    remedies = (Remedy(f"--max-length {whole}", "keeps every conversation whole"),) if fits else ()
    too_many_unanswered = rows.num_without_answer > _MAX_WITHOUT_ANSWER * len(store)
    rejects_cut = rows.num_truncated and settings.truncation == "reject"
    if not rows.num_full or too_many_unanswered or rejects_cut:
        raise _answers_cut(rows, remedies or _longer_context_remedies(rows, whole))
    if not rows.num_truncated:
        return Decision(None)
    finding = Finding(
        "warning",
        f"{rows.num_truncated:,} of {len(store):,} conversations are cut to max_length",
        f"up to {longest:,} tokens; {rows.num_without_answer:,} lose their whole answer",
        f"at most {rows.max_length:,} tokens, the max_length",
        remedies,
    )
    return Decision(None, findings=(finding,))


def num_full_rows(rows: StoreRows) -> int:
    """Full rows of the data; an estimate if only a sample was read."""
    sampled = rows.store.survey.sampled
    if sampled is None:
        return rows.num_full
    return round(rows.num_full * sampled.scale) if sampled.scale else UNKNOWN_NUM_ROWS


def _too_short(rows: StoreRows, num_targets: int) -> Refusal:
    survey, length = rows.store.survey, rows.max_length
    name = survey.sources[0] if len(survey.sources) == 1 else "the data"
    num_documents = survey.records_accepted
    num_tokens = num_targets + num_documents
    characters_per_token = survey.characters / max(num_tokens, 1)
    remedies: list[Remedy] = []
    if num_targets >= 2:
        fits = 1 << (num_targets.bit_length() - 1)
        num_full, rest = divmod(num_targets, fits)
        gives = f"1 batch of {units.plural(num_full, 'row')}"
        remedies.append(
            Remedy(f"--max-length {fits}", gives + (", the rest as a short row" if rest else ""))
        )
    missing = length - num_targets
    characters = max(1, round(missing * characters_per_token))
    remedies.append(
        Remedy(
            "more text", f"{units.plural(missing, 'token')} more, about {characters:,} characters"
        )
    )
    return DataRefused(
        f"{name} is too short for one row",
        cause=Cause.TOO_LITTLE_DATA,
        have=units.plural(num_tokens, "token")
        + (f" in {num_documents:,} documents" if num_documents > 1 else ""),
        need=f"{length + 1:,}, one full row of max_length {length:,}",
        remedies=tuple(remedies),
    )


def _answers_cut(rows: StoreRows, remedies: tuple[Remedy, ...]) -> Refusal:
    return DataRefused(
        f"max_length {rows.max_length:,} cuts off answers",
        cause=Cause.ANSWERS_CUT,
        have=f"{rows.num_truncated:,} of {len(rows.store):,} conversations are longer, "
        f"{rows.num_without_answer:,} of them lose every trained token",
        need="at most 1% without an answer"
        if rows.num_without_answer
        else "no longer conversations",
        remedies=remedies,
    )


def _longer_context_remedies(rows: StoreRows, length: int) -> tuple[Remedy, ...]:
    """What helps if the model takes no longer rows."""
    return (
        Remedy("--model DIR", f"a model with a context of {length:,} tokens"),
        Remedy("leave them out", f"the {rows.num_truncated:,} longest do not fit this model"),
    )


# ---- held-out rows and the batch ---------------------------------------------------------------


@dataclass(frozen=True)
class HeldOut:
    """How many full rows are held out, and which of them may be; None: any."""

    num: int
    allowed: NDArray[np.bool_] | None = None


def decide_held_out(
    settings: Settings, num_full: int, rows: StoreRows, statistics: RowStatistics
) -> Decision[HeldOut]:
    """How many of the full rows are held out.

    Args:
        settings: val_size.
        num_full: full rows of the data.
        rows: of the data, or of its sample.
        statistics: of the rows.

    Raises:
        DataRefused: no row would be left to train on, or each has an identical one.
    """
    given = settings.val_size
    if given == FEW:
        return _hold_out_few(settings, num_full, rows, statistics)
    held_out = round(given) if given >= 1 else round(given * num_full)
    if 0 < given < 1:
        held_out = max(held_out, 1)
    if held_out >= num_full:
        raise _none_left(given, num_full)
    if held_out or num_full < 20:
        return _hold_out(settings, held_out, rows)
    some = max(1, min(200, num_full // 20))
    finding = Finding(
        "ok",
        "no rows held out: learning is measured on trained rows",
        have="val_size 0",
        remedies=(Remedy(f"--val-size {some}", "distinguishes learning from memorizing"),),
    )
    return Decision(HeldOut(held_out), findings=(finding,))


def _hold_out_few(
    settings: Settings, num_full: int, rows: StoreRows, statistics: RowStatistics
) -> Decision[HeldOut]:
    """Hold out as many rows, up to eight and one in fifty, as leave the number of steps alone."""

    def num_steps(held_out: int) -> int:
        available = num_full - held_out
        return -(-available // decide_batch_size(settings, rows, statistics, available).value)

    most = min(_MOST_OF_FEW, num_full // _ONE_IN)
    num = next((few for few in range(most, 0, -1) if num_steps(few) == num_steps(0)), 0)
    allowed = None if not num or rows.store.survey.sampled else rows.are_alone()
    num = num if allowed is None else min(num, int(allowed.sum()))
    why = (
        f"up to {_MOST_OF_FEW}, and one in {_ONE_IN}, that differ from all others and cost no step"
    )
    return Decision(HeldOut(num, allowed if num else None), (auto("val_size", num, why),))


def _hold_out(settings: Settings, num: int, rows: StoreRows) -> Decision[HeldOut]:
    """Hold out rows that differ from all others: an identical row would be trained."""
    if not num or rows.store.survey.sampled:
        return Decision(HeldOut(num))
    is_alone = rows.are_alone()
    num_alone = int(is_alone.sum())
    twins = f"{units.plural(rows.num_full - num_alone, 'row')} with an identical row"
    need = "rows that differ from all others: an identical one would be trained"
    drop = (Remedy("--drop-duplicates", "trains only one of several identical records"),)
    drop = drop if rows.store.survey.duplicates else ()
    if not num_alone:
        raise DataRefused(
            "no row can be held out",
            cause=Cause.TOO_LITTLE_DATA,
            have=twins,
            need=need,
            remedies=(*drop, Remedy("--val-size 0", "trains on every row")),
        )
    held_out = HeldOut(min(num, num_alone), is_alone)
    if num <= num_alone:
        return Decision(held_out)
    decision = adjusted(
        settings,
        "val_size",
        num_alone,
        f"held-out rows lowered to {units.count(num_alone)}: the others have an identical row",
        asked=settings.val_size,
        have=twins,
        need=need,
        remedies=(*drop, Remedy(f"--val-size {num_alone}", "nothing to adjust")),
    )
    return Decision(held_out, decision.choices, decision.findings)


def _none_left(val_size: float, num_full: int) -> Refusal:
    tenth = Remedy("--val-size 0.1", f"holds out {max(1, round(num_full / 10))}")
    none = Remedy("--val-size 0", "trains on every row")
    return DataRefused(
        f"val_size {val_size:g} leaves nothing to train on",
        cause=Cause.TOO_LITTLE_DATA,
        have=units.plural(num_full, "row"),
        need="at least 1 row to train on",
        remedies=(tenth, none) if num_full > 1 else (none,),
    )


def decide_batch_size(
    settings: Settings, rows: StoreRows, statistics: RowStatistics, available: int
) -> Decision[int]:
    """Rows of a step, at most those available.

    Args:
        settings: batch_size, batch_tokens, or other tools' two factors of it.
        rows: of the data, or of its sample.
        statistics: of the rows.
        available: full rows to train on.
    """
    per_device, accumulated = (
        settings.per_device_train_batch_size,
        settings.gradient_accumulation_steps,
    )
    mean = statistics.mean_full_tokens
    given, choices = settings.batch_size, ()
    if per_device or accumulated:
        product = (per_device or 1) * (accumulated or 1)
        given = given or product
        reason = f"{per_device or 1} per device x {accumulated or 1} steps x 1 process"
        choices = (auto("batch_size", given, reason),)
    if not given and settings.batch_tokens:
        given = max(1, round(settings.batch_tokens / mean))
        reason = f"{settings.batch_tokens:,} tokens at about {mean:.0f} per row"
        choices = (auto("batch_size", given, reason),)
    if not given:
        return _usual_batch_size(available, mean)
    if given <= available:
        return Decision(given, choices)
    tokens = given * rows.max_length
    return adjusted(
        settings,
        "batch_size",
        available,
        f"batch_size lowered to {available:,}: there are no more rows",
        asked=given,
        have=f"batch {given:,} x {rows.max_length:,} = {tokens:,} tokens per step; "
        f"the data has {units.plural(available, 'full row')} ({round(available * mean):,} tokens)"
        + (" and a short one" if rows.has_short else ""),
        need="at least one batch",
        remedies=(Remedy(f"--batch-size {available}", "1 batch, nothing to adjust"),),
    )


def _usual_batch_size(available: int, mean: float) -> Decision[int]:
    """By the size of the data, and smaller if that gives 8 steps."""
    tokens = available * mean
    usual = 4 if tokens < 10_000 else 8 if tokens < 100_000 else 32 if mean >= 128 else 64
    size = max(1, min(usual, available // 8 or 1))
    if size < usual:
        reason = "gives at least 8 steps" if available >= 8 else "few rows"
    elif available < UNKNOWN_NUM_ROWS // 2:
        reason = f"usual for {units.short_count(tokens)} tokens"
    else:
        reason = "usual for a long stream"
    return Decision(size, (auto("batch_size", size, reason),))


# ---- steps -------------------------------------------------------------------------------------


def decide_num_steps(
    settings: Settings, order: StoreOrder, trained_tokens_per_step: float
) -> Decision[int]:
    """Steps of the run; `max_steps` overrides epochs and repeats the data if necessary.

    Args:
        settings: epochs and limits, as given.
        order: which rows make which step.
        trained_tokens_per_step: about.
    """
    epochs, choices = settings.num_train_epochs, ()
    num = max(1, math.ceil(round((epochs or 1) * order.steps_per_epoch, 6)))
    if epochs is None:
        choices = (auto("num_train_epochs", 1, "each row once"),)
    if settings.max_steps:
        num = settings.max_steps
    if settings.max_tokens:
        limit = max(1, math.floor(settings.max_tokens / trained_tokens_per_step))
        num = min(num, limit) if epochs or settings.max_steps else limit
    return Decision(min(num, _TEST_STEPS) if settings.test else num, choices)
