"""Survey: the size, lengths and problems of the data, measured by tokenizing it.

Sources are read as records, records become examples, and examples go into a store in the cache. If
a tokenizer has to be trained first, the records wait in a spool. Small sources are read completely;
of large ones, an evenly spaced sample is read to estimate the rest.
"""

import contextlib
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from headway.base.errors import DataRefused, Refusal
from headway.base.files import hash_bytes, hash_file
from headway.base.pulse import Phase, Pulse
from headway.base.units import size
from headway.data.examples import tokenizer as tokenizers
from headway.data.examples.examples import (
    Example,
    end_token_id,
    end_token_ids,
    render_marked,
)
from headway.data.examples.maker import ExampleMaker, ExampleOptions
from headway.data.examples.record_batches import batch_records
from headway.data.examples.tokenizer import Tokenizer
from headway.data.formats.compressed import suffix_of
from headway.data.formats.lines import LONGEST_LINE
from headway.data.formats.records import LEFT_OUT, DataKind, Record, Rejected, RejectReason, Skipped
from headway.data.formats.splits import SourceParts
from headway.data.sources.source import Source, Span
from headway.data.survey.cache import StoreCache
from headway.data.survey.notes import RecordNotes
from headway.data.survey.reading import EmptySampleError, Part, Reading
from headway.data.survey.refusals import (
    no_usable_records,
    token_outside_embedding,
    too_many_rejected,
)
from headway.data.survey.result import Survey, SurveySample, by_reason
from headway.data.survey.spool import Spool
from headway.data.survey.store import Store, StoreWriter, summarize

BYTE_LEVEL_BELOW = 1_000_000  # bytes of text; less text has too few pairs to merge
EXPANSION = 4  # approximate bytes of text per byte of a compressed file
_SAMPLE_PARTS = 48
_SAMPLE_BYTES = 8_000_000  # approximate bytes of text in a sample


def survey(
    sources: Sequence[Source],
    options: ExampleOptions,
    *,
    max_rejected: float,
    exact_bytes: int,
    cache: Path,
    pulse: Pulse,
    embedding_rows: int | None = None,
    conversations: Refusal | None = None,
) -> Store:
    """Read, check, count and tokenize the sources, or find the result in the cache.

    Args:
        sources: from `find_sources`.
        options: how their records become examples.
        max_rejected: share of unusable rows above which the data is refused.
        exact_bytes: sources larger than this are sampled.
        cache: the folder of stores.
        pulse: shows the progress, and every wait.
        embedding_rows: of the model; every id must be smaller. None: no limit.
        conversations: raised if the data are conversations; None: conversations are allowed.

    Returns:
        The store, of all examples or of a sample. Its folder also holds the tokenizer's files.

    Raises:
        DataRefused: there is nothing to train on, or too many records are unusable.
        UsageError: a source cannot be read, or the tokenizer cannot be loaded.
        ComeBack: a source changed while it was being read.
        MachineError: the cache cannot be written.
    """
    stores = StoreCache(cache)
    known = not any(source.is_stream for source in sources)
    identities = [_identity(source, pulse) for source in sources] if known else []
    store = _find(stores, options, identities) if known else None
    if store is None:
        large = _is_large(sources, exact_bytes)
        content: tuple[object, ...] = ("sample", identities) if large else (identities,)
        if known and large:
            store = _find(stores, options, *content)
        elif known:
            store = _find_same_bytes(stores, options, sources, identities)
        if store is None:
            for parts in _samples(sources, pulse) if large else (None,):
                with contextlib.suppress(EmptySampleError), stores.new_folder() as folder:
                    found = _build_store(folder, options, sources, parts, conversations, pulse)
                    day = [found.template_day] if found.template_day else []
                    key = options.key(found.fingerprint, found.sources, *day)
                    alias = options.key(*content, *day)
                    store = stores.publish(folder, key, alias if known else None)
                    break
    if store is None:
        raise _no_whole_row(sources)
    _check(store, max_rejected, embedding_rows, conversations)
    return store


def _find(stores: StoreCache, options: ExampleOptions, *content: object) -> Store | None:
    """The store of this content; if its template asks for the date, the one of this day."""
    return stores.find(options.key(*content)) or stores.find(options.key(*content, options.day))


def _find_same_bytes(
    stores: StoreCache, options: ExampleOptions, sources: Sequence[Source], identities: object
) -> Store | None:
    """The store of the same bytes under the same names: files that were touched, or read ahead."""
    content: list[tuple[int, str | None]] = []
    with contextlib.suppress(OSError):  # told when it is read
        content += [(one.size, hash_file(one.path).sha256) for one in sources if one.path]
    if len(content) < len(sources):
        return None
    names, fingerprint = tuple(source.name for source in sources), _hash_content(content)
    for day in ((), (options.day,)):
        if store := stores.open(options.key(fingerprint, names, *day)):
            stores.add_alias(options.key(identities, *day), store)
            return store
    return None


def _check(
    store: Store, max_rejected: float, embedding_rows: int | None, conversations: Refusal | None
) -> None:
    found = store.survey
    if conversations and found.kind == "conversations":
        raise conversations
    bad = sum(n for reason, n in found.records_rejected.items() if reason not in LEFT_OUT)
    if bad > max_rejected * found.records_read:
        rejected = [one for one in store.rejected() if one.reason not in LEFT_OUT]
        raise too_many_rejected(rejected, bad, found.records_read, max_rejected)
    if embedding_rows is not None and found.max_id >= embedding_rows:
        raise token_outside_embedding(store, embedding_rows)


def _identity(source: Source, pulse: Pulse) -> tuple[str, bytes, tuple[int | str, ...]]:
    pulse.beat()
    # The name, not the address: a new signature does not change the file.
    place = os.fsencode(source.path.absolute()) if source.path else source.endpoint.encode()
    return source.name, place, source.stamp


def _is_large(sources: Sequence[Source], exact_bytes: int) -> bool:
    """Whether to read a sample only; streams are always read completely."""
    if any(source.is_stream for source in sources):
        return False
    if any(not source.size for source in sources if source.address):
        return True
    return sum(s.size * (EXPANSION if suffix_of(s.name) else 1) for s in sources) > exact_bytes


def _samples(sources: Sequence[Source], pulse: Pulse) -> Iterator[list[Part]]:
    """Samples to try until one holds a whole row: a part may be shorter than the rows."""
    yield sample_of(sources, pulse)
    yield [Part(_largest(sources), None, _SAMPLE_BYTES)]
    yield [Part(_largest(sources), None, 2 * LONGEST_LINE)]


def _largest(sources: Sequence[Source]) -> Source:
    return max(sources, key=lambda source: source.size)


def _no_whole_row(sources: Sequence[Source]) -> DataRefused:
    name, found = _largest(sources).name, f"no line end in the first {size(2 * LONGEST_LINE)}"
    return no_usable_records(sources, [Rejected(name, 1, RejectReason.ROW_TOO_LONG, found)], [])


def sample_of(sources: Sequence[Source], pulse: Pulse) -> list[Part]:
    """Evenly spaced parts of the sources (a systematic sample)."""
    units = SourceParts(sources, pulse)
    num = min(_SAMPLE_PARTS, len(units))
    max_bytes = _SAMPLE_BYTES // num
    parts: list[Part] = []
    for number in range(num):
        source, span = units[(2 * number + 1) * len(units) // (2 * num)]
        if span:
            span = Span(span.begin, min(span.end, span.begin + max_bytes))
        expansion = EXPANSION if suffix_of(source.name) else 1
        parts.append(Part(source, span, max_bytes // expansion))
    return parts


def _build_store(
    folder: Path,
    options: ExampleOptions,
    sources: Sequence[Source],
    sample: Sequence[Part] | None,
    conversations: Refusal | None,
    pulse: Pulse,
) -> Survey:
    """Write a store to an empty folder, from a sample or from the complete sources."""
    began_s = time.monotonic()
    is_sample = sample is not None
    reading = Reading(
        sources,
        sample or [Part(source) for source in sources],
        conversations,
        drop_duplicates=options.drop_duplicates,
        skip_corrupt=options.skip_corrupt,
        preferred_only=options.preferred_only,
        pulse=pulse,
    )
    num_bytes = sum(_size(part) for part in reading.parts)
    if options.tokenizer:
        with pulse.phase(Phase.LOADING_TOKENIZER):
            tokenizer = tokenizers.load(options.tokenizer)
        with pulse.phase(Phase.TOKENIZING, total=num_bytes, unit="bytes"):
            builder = _tokenize(folder, options, tokenizer, reading.records(), reading)
            return builder.finish(is_sample, began_s)
    with tempfile.SpooledTemporaryFile(max_size=1 << 23, dir=str(folder)) as file:
        spool = Spool(file, pulse)
        with pulse.phase(Phase.READING, total=num_bytes, unit="bytes"):
            spool.take(reading.records())
        tokenizer = tokenizers.byte_level()
        if spool.text_bytes >= BYTE_LEVEL_BELOW:
            with pulse.phase(Phase.TRAINING_TOKENIZER, total=spool.num_bytes, unit="bytes"):
                tokenizer = tokenizers.train(spool.sample(), options.vocab_size)
        with pulse.phase(Phase.TOKENIZING, total=spool.num_bytes, unit="bytes"):
            builder = _tokenize(folder, options, tokenizer, spool.records(), reading)
            return builder.finish(is_sample, began_s)


def _size(part: Part) -> int:
    """Stored bytes of a part; 0 if unknown."""
    size = part.span.end - part.span.begin if part.span else part.source.size
    return size if part.max_bytes is None else min(size, part.max_bytes)


def _tokenize(
    folder: Path,
    options: ExampleOptions,
    tokenizer: Tokenizer,
    records: Iterable[Record],
    reading: Reading,
) -> "_StoreBuilder":
    builder: _StoreBuilder | None = None

    def take(batch: list[Record]) -> None:
        nonlocal builder
        builder = builder or _StoreBuilder(folder, options, tokenizer, batch[0].kind, reading)
        builder.take(batch)

    try:
        batch_records(records, take, num_characters=_num_characters, pulse=reading.pulse)
    except BaseException:
        if builder:
            builder.writer.close()
        raise
    assert builder is not None, "a reading without records is refused"
    return builder


def _num_characters(record: Record) -> int:
    return sum(map(len, record.texts))


class _StoreBuilder:
    """Builds a store: turns records into examples, writes them and counts."""

    def __init__(
        self,
        folder: Path,
        options: ExampleOptions,
        tokenizer: Tokenizer,
        kind: DataKind,
        reading: Reading,
    ) -> None:
        self.folder = folder
        self.reading = reading
        self.pulse = reading.pulse
        self.maker = ExampleMaker(options, tokenizer, kind, self._tick)
        self.writer = StoreWriter(folder, kind, self.maker.tokenizer.vocab_size)
        self.num_characters = 0
        self.first: Example | None = None
        self.notes = RecordNotes()
        self.ends: set[int] = set()
        self._tokens_of: list[int] = []  # of each record, in order; 0 for a rejected one

    def take(self, batch: Sequence[Record]) -> None:
        """Make examples of some records."""
        for record, made in zip(batch, self.maker.make(batch), strict=True):
            if isinstance(made, Rejected):
                self.reading.reject_record(made, len(self._tokens_of))
                self._tokens_of.append(0)
            else:
                self._tokens_of.append(len(made.ids))
                self.writer.add(made)
                self.notes.add(record, made)
                self.ends |= end_token_ids(made, self.maker.tokenizer)
                self.num_characters += _num_characters(record)
                self.first = self.first or made
        self.pulse.beat()

    def _tick(self, num_tokens: int) -> None:
        self.pulse.tokens += num_tokens
        self.pulse.beat()

    def finish(self, is_sample: bool, began_s: float) -> Survey:
        """Finish the store and return its survey.

        Raises:
            DataRefused: no record gave an example.
        """
        reading, writer, words = self.reading, self.writer, self.maker.tokenizer
        with writer.closing():
            if self.first is None:
                raise no_usable_records(reading.sources, reading.rejected, reading.skipped)
            for rejected in reading.rejected:
                writer.reject(rejected)
            lengths = writer.lengths()
            template = words.chat_template if writer.kind == "conversations" else None
            found = Survey(
                kind=writer.kind,
                sources=tuple(source.name for source in reading.sources),
                records_read=len(lengths) + len(reading.rejected),
                records_rejected=dict(Counter(one.reason.value for one in reading.rejected)),
                records_accepted=len(lengths),
                bytes=reading.num_bytes,
                characters=self.num_characters,
                tokens=writer.num_tokens,
                trained_tokens=writer.num_trained,
                lengths=summarize(lengths),
                vocab_size=words.vocab_size,
                max_id=writer.max_id,
                end_id=end_token_id(self.first, words),
                end_ids=tuple(sorted(self.ends)),
                begin_id=int(self.first.ids[0]),
                fingerprint=_fingerprint(reading),
                tokenizer=words.fingerprint,
                tokenizer_from=words.origin,
                template=hash_bytes(template.encode()) if template else "",
                template_day=self.maker.options.day if self.maker.uses_date else "",
                examples=writer.examples_sha256,
                marked_example=render_marked(self.first, words),
                seconds=time.monotonic() - began_s,
                template_from=self.maker.template_from,
                passed_over=by_reason(map(_named, reading.skipped)),
                duplicates=reading.duplicates,
                notes=self.notes.counts(),
                shapes=dict(reading.shapes),
                contents=reading.contents,
                sampled=self._summarize_sample() if is_sample else None,
            )
            words.save(self.folder)
            writer.finish(found)
            return found

    def _summarize_sample(self) -> SurveySample:
        reading = self.reading
        sizes = [source.size for source in reading.sources]
        whole = sum(sizes) if all(sizes) else 0
        ends = np.cumsum(reading.records_by_part)
        sums = np.concatenate([[0], np.cumsum(self._tokens_of)])
        tokens = np.diff(sums[np.concatenate([[0], ends])])
        error = error_of_ratio(tokens.tolist(), reading.bytes_by_part)
        return SurveySample(reading.num_bytes, whole, len(reading.parts), error)


def _named(skipped: Skipped) -> tuple[str, str]:
    is_part = skipped.reason is RejectReason.OTHER_SPLIT
    name = f"{skipped.file}: {skipped.detail}" if is_part else skipped.file
    return name, skipped.reason.value


def error_of_ratio(amounts: Sequence[float], sizes: Sequence[float]) -> float:
    """Two standard errors of sum(amounts) / sum(sizes) over the parts of a sample, as a share.

    The usual estimator of a ratio's variance (Cochran 1977, section 6.4); 1 for a single part,
    which says nothing about the others.
    """
    num = len(amounts)
    if num < 2 or not sum(amounts):
        return 1.0
    ratio = sum(amounts) / sum(sizes)
    squares = sum((a - ratio * s) ** 2 for a, s in zip(amounts, sizes, strict=True))
    return 2 * math.sqrt(squares * num / (num - 1)) / sum(amounts)


def _fingerprint(reading: Reading) -> str:
    """sha256 over the content read and the sizes of the sources, but not their names."""
    return _hash_content([(one.size, reading.contents.get(one.name)) for one in reading.sources])


def _hash_content(content: Sequence[tuple[int, str | None]]) -> str:
    return hash_bytes(msgspec.json.encode(content))
