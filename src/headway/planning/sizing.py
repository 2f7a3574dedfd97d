"""Rows, batches and steps that fit the data: what was asked for, adjusted where it must be."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from headway.base import units
from headway.base.errors import DataRefused, Finding, Refusal, Remedy
from headway.config.settings import Settings
from headway.data.batching.packing import num_leaves
from headway.data.batching.rows import StoreRows
from headway.data.order import RowOrder
from headway.data.survey.store import Store
from headway.planning.prefix_sharing import LEAST, saving
from headway.runs.plan import Choice, StepsPlan

TEXT_LENGTH = 256  # of a text's rows, for a model from nothing
TEXT_LENGTH_TRAINED = 1024  # ... for one that has weights
_MICRO_TOKENS = 2048  # a processor is as fast with these as with more
_MICRO_TOKENS_GPU = 16_384
_TOLD = 0.01  # of a step's tokens that rows begin alike with: less is not worth a word
ENDLESS = 1 << 40  # rows, where nobody knows how many there are
_TRIAL_STEPS = 20


@dataclass
class Notes:
    """What was decided so far, for people."""

    choices: dict[str, Choice] = field(default_factory=dict[str, Choice])
    findings: list[Finding] = field(default_factory=list[Finding])

    def auto(self, name: str, value: object, reason: str) -> None:
        """Decided here, because."""
        self.choices[name] = Choice(name, value, "auto", reason)

    def adjusted(self, name: str, value: object, origin: str, finding: Finding) -> None:
        """Asked for otherwise, and changed."""
        self.choices[name] = Choice(name, value, origin, f"adjusted: {finding.what}")
        self.findings.append(finding)

    def warn(self, what: str, have: str = "", need: str = "", *remedies: Remedy) -> None:
        """Done as asked, with something to know."""
        self.findings.append(Finding("warning", what, have, need, remedies))


def fit_length(
    settings: Settings, store: Store, context: int, *, from_nothing: bool, notes: Notes
) -> int:
    """The `max_length`: as asked, or from the data.

    Args:
        settings: max_length, or None for auto.
        store: the data.
        context: the longest sequence the model takes; 0 where it has no limit.
        from_nothing: whether the model has no weights yet.
        notes: takes the decision and its reason.
    """
    context = context or 1 << 30
    asked = settings.max_length
    if asked and asked > context:
        finding = Finding(
            "adjusted",
            f"max_length {asked:,} is longer than the model's context; it becomes {context:,}",
            have=f"max_length {asked:,}",
            need=f"at most {context:,}, what the model was made for",
            remedies=(Remedy(f"--max-length {context}"),),
        )
        notes.adjusted("max_length", context, settings.origin("max_length"), finding)
        return context
    if asked:
        return asked
    if store.survey.kind != "text":
        longest = store.survey.lengths.max
        length = min(_power_of_two_over(longest, 64), context)
        noun = "conversation" if store.survey.kind == "conversations" else "record"
        what = f"holds the longest {noun}" if longest <= length else "is the model's context"
        notes.auto("max_length", length, f"{what} ({longest:,} tokens)")
        return length
    usual = TEXT_LENGTH if from_nothing else min(TEXT_LENGTH_TRAINED, context)
    targets = _num_targets(store)
    if targets >= usual:
        start = "from nothing" if from_nothing else "and a model that has weights"
        notes.auto("max_length", usual, f"usual for text {start}")
        return usual
    length = max(2, 1 << max(targets.bit_length() - 1, 0))
    notes.auto("max_length", length, f"the text has {targets + 1:,} tokens")
    return length


def _num_targets(store: Store) -> int:
    return int(np.maximum(np.diff(store.starts) - 1, 0).sum())


def _power_of_two_over(value: int, least: int) -> int:
    return max(least, 1 << max(value - 1, 1).bit_length())


def check_rows(rows: StoreRows, settings: Settings, context: int, notes: Notes) -> None:
    """Refuse data that makes no row or loses its answers; say what is cut.

    Args:
        rows: of the data.
        settings: truncation.
        context: the longest sequence the model takes; 0 where it has no limit.
        notes: takes what is cut.

    Raises:
        DataRefused: there is no full row, or `max_length` cuts answers off.
    """
    store, length = rows.store, rows.max_length
    if store.survey.kind == "text" and not rows.num_full:
        raise _too_short(rows, _num_targets(store))
    keeps = _power_of_two_over(store.survey.lengths.max, 64)
    fits = not context or keeps <= context
    longer = (Remedy(f"--max-length {keeps}", "keeps every conversation whole"),) if fits else ()
    refused = rows.num_truncated and settings.truncation == "reject"
    if not rows.num_full or rows.num_vanished > 0.01 * len(store) or refused:
        raise _vanished(rows, longer or _for_less_context(rows, keeps))
    if rows.num_truncated:
        longest = store.survey.lengths.max
        notes.warn(
            f"{rows.num_truncated:,} of {len(store):,} conversations are cut to max_length",
            f"up to {longest:,} tokens, {rows.num_vanished:,} lose their whole answer",
            f"max_length {length:,} or less",
            *longer,
        )


def _too_short(rows: StoreRows, targets: int) -> Refusal:
    survey, length = rows.store.survey, rows.max_length
    name = survey.sources[0] if len(survey.sources) == 1 else "the data"
    tokens = targets + survey.records_accepted
    per_token = survey.characters / max(tokens, 1)
    remedies: list[Remedy] = []
    if targets >= 2:
        fits = 1 << (targets.bit_length() - 1)
        full, rest = divmod(targets, fits)
        gives = f"1 batch of {units.plural(full, 'row')}"
        remedies.append(
            Remedy(f"--max-length {fits}", gives + (", the rest as a short row" if rest else ""))
        )
    missing = length - targets
    characters = max(1, round(missing * per_token))
    remedies.append(
        Remedy(
            "more text", f"{units.plural(missing, 'token')} more, about {characters:,} characters"
        )
    )
    return DataRefused(
        f"{name} is too short for one row",
        have=f"{units.plural(tokens, 'token')}"
        + (f" in {survey.records_accepted:,} documents" if survey.records_accepted > 1 else ""),
        need=f"{length + 1:,}, one full row of max_length {length:,}",
        remedies=tuple(remedies),
    )


def _vanished(rows: StoreRows, remedies: tuple[Remedy, ...]) -> Refusal:
    length = rows.max_length
    return DataRefused(
        f"max_length {length:,} cuts answers off",
        have=f"{rows.num_truncated:,} of {len(rows.store):,} conversations are longer, "
        f"{rows.num_vanished:,} of them lose every trained token",
        need="at most 1% without an answer" if rows.num_vanished else "no conversation longer",
        remedies=remedies,
    )


def _for_less_context(rows: StoreRows, keeps: int) -> tuple[Remedy, ...]:
    """What helps where the model takes no longer rows."""
    return (
        Remedy("--model DIR", f"with a model whose context is {keeps:,} tokens"),
        Remedy("leave them out", f"the {rows.num_truncated:,} longest are too long for this one"),
    )


def fit_held_out(settings: Settings, num_full: int, notes: Notes) -> int:
    """How many of the full rows are held out.

    Raises:
        DataRefused: none would be left to train on.
    """
    asked = settings.val_size
    wanted = round(asked) if asked >= 1 else round(asked * num_full)
    if 0 < asked < 1:
        wanted = max(wanted, 1)
    if wanted >= num_full:
        raise DataRefused(
            f"val_size {asked:g} leaves nothing to train on",
            have=f"{units.plural(num_full, 'row')}",
            need="at least 1 row to train on",
            remedies=(
                *(
                    (Remedy("--val-size 0.1", f"holds {max(1, round(num_full / 10))} out"),)
                    if num_full > 1
                    else ()
                ),
                Remedy("--val-size 0", "hold none out"),
            ),
        )
    if not wanted and num_full >= 20:
        hold = max(1, min(200, num_full // 20))
        notes.findings.append(
            Finding(
                "ok",
                "no rows held out: learning is judged on rows that were trained",
                have="val_size 0",
                remedies=(Remedy(f"--val-size {hold}", "tells learning from memorising"),),
            )
        )
    return wanted


def fit_batch(settings: Settings, rows: StoreRows, available: int, notes: Notes) -> int:
    """Rows of a step, at most what there are."""
    per_device, parts = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    product = (per_device or 1) * (parts or 1) if per_device or parts else None
    asked = settings.batch_size or product
    mean = float(rows.lengths()[: rows.num_full].mean())
    if product:
        notes.auto(
            "batch_size", asked, f"{per_device or 1} per device x {parts or 1} steps x 1 process"
        )
    if not asked and settings.batch_tokens:
        asked = max(1, round(settings.batch_tokens / mean))
        notes.auto(
            "batch_size", asked, f"{settings.batch_tokens:,} tokens of about {mean:.0f} a row"
        )
    if not asked:
        return _usual_batch(available, mean, notes)
    if asked <= available:
        return asked
    tokens = round(available * mean)
    finding = Finding(
        "adjusted",
        f"the batch becomes {available:,}: there are no more rows",
        have=f"batch {asked:,} x {rows.max_length:,} = {asked * rows.max_length:,} tokens a step, "
        f"the data has {units.plural(available, 'full row')} ({tokens:,} tokens)"
        + (" and a short one" if rows.has_short else ""),
        need="at least one batch",
        remedies=(Remedy(f"--batch-size {available}", "1 batch, nothing to adjust"),),
    )
    notes.adjusted("batch_size", available, settings.origin("batch_size"), finding)
    return available


def _usual_batch(available: int, mean: float, notes: Notes) -> int:
    """By the data's size, and then so that there are 8 steps where the rows allow it."""
    tokens = available * mean
    usual = 4 if tokens < 10_000 else 8 if tokens < 100_000 else 32 if mean >= 128 else 64
    size = max(1, min(usual, available // 8 or 1))
    known = f"{units.short_count(tokens)} tokens" if available < ENDLESS // 2 else "a long stream"
    reason = f"usual for {known}"
    notes.auto(
        "batch_size",
        size,
        reason if size == usual else "gives at least 8 steps" if available >= 8 else "few rows",
    )
    return size


@dataclass(frozen=True)
class Pieces:
    """How a step is cut, and what of it runs once for several rows."""

    leaves: int
    micro_batch_tokens: int
    shared: float = 0.0  # share of the input tokens
    share_prefixes: bool = False
    not_shared: str = ""  # why not, where there would be something to share


def fit_pieces(
    settings: Settings,
    rows: StoreRows,
    order: RowOrder,
    against: str,
    device: str,
) -> Pieces:
    """Leaves and micro-batches by the tokens that run; fewer where rows share what they begin with.

    Args:
        settings: micro_batch_tokens.
        rows: of the data, or of the sample that was read.
        order: of the rows.
        against: why rows must not share, "" where they may.
        device: that they run on.
    """
    most_tokens = _MICRO_TOKENS_GPU if device == "cuda" else _MICRO_TOKENS

    def cut(tokens: int) -> Pieces:
        leaves = num_leaves(tokens, order.batch_size)
        micro = settings.micro_batch_tokens or _micro_tokens(tokens // leaves, most_tokens)
        return Pieces(leaves, micro)

    tokens = _step_tokens(rows, order)
    whole = cut(tokens)
    if rows.store.survey.kind == "text":  # its windows are cut anywhere
        return whole
    most = saving(rows, order, 1, ENDLESS).share
    if most < LEAST or against:
        little = "too little to pay" if most >= _TOLD else ""
        return replace(whole, shared=most, not_shared=against if most >= LEAST else little)
    less = cut(round(tokens * (1 - most)))
    found = saving(rows, order, less.leaves, less.micro_batch_tokens)
    if found.share < LEAST:
        return replace(whole, shared=most, not_shared=too_small(less.micro_batch_tokens))
    return replace(less, leaves=found.leaves, shared=found.share, share_prefixes=True)


def too_small(micro_batch_tokens: int) -> str:
    """Why rows that begin alike run that each by itself."""
    return f"micro-batches of {micro_batch_tokens:,} tokens are too small for it"


def _step_tokens(rows: StoreRows, order: RowOrder) -> int:
    """Input tokens of a full step, about."""
    return round(order.batch_size * float(rows.lengths()[: rows.num_full].mean()))


def fit_steps(
    settings: Settings,
    rows: StoreRows,
    order: RowOrder,
    first: int,
    pieces: Pieces,
    notes: Notes,
) -> StepsPlan:
    """How many steps of how many rows.

    Args:
        settings: epochs and limits, as asked.
        rows: of the data, or of the sample that was read.
        order: of the rows.
        first: global step before the job.
        pieces: how a step is cut.
        notes: takes the decisions and their reasons.
    """
    per_epoch = order.steps_per_epoch
    tokens, micro = _step_tokens(rows, order), pieces.micro_batch_tokens
    trained_per_step = tokens * rows.trained() / int(rows.lengths().sum())
    num = _num_steps(settings, per_epoch, trained_per_step, notes)
    if not settings.micro_batch_tokens:
        notes.auto("micro_batch_tokens", micro, "runs at once; more would only take memory")
    return StepsPlan(
        first=first,
        num=num,
        per_epoch=per_epoch,
        epochs=num / per_epoch,
        batch_size=order.batch_size,
        last_batch=order.last_batch,
        tokens=tokens,
        leaves=pieces.leaves,
        micro_batch_tokens=micro,
        share_prefixes=pieces.share_prefixes,
    )


def _num_steps(settings: Settings, per_epoch: int, trained_per_step: float, notes: Notes) -> int:
    """Steps of the job; `max_steps` wins over epochs, going round the data if need be."""
    epochs = settings.num_train_epochs
    num = max(1, math.ceil(round((epochs or 1) * per_epoch, 6)))
    if epochs is None:
        notes.auto("num_train_epochs", 1, "each row once")
    if settings.max_steps:
        num = settings.max_steps
    if settings.max_tokens:
        most = max(1, math.floor(settings.max_tokens / trained_per_step))
        num = min(num, most) if epochs or settings.max_steps else most
    return min(num, _TRIAL_STEPS) if settings.test else num


def _micro_tokens(leaf_tokens: int, most: int) -> int:
    """A leaf at once where it is small; the plan takes less where that does not fit in memory."""
    return max(256, min(most, _power_of_two_over(leaf_tokens, 256)))
