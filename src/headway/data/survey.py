"""Measure the data: tokens, lengths, waste, bad rows.

Each source is read once: what is read becomes records, records become examples, and examples go
into a store in the cache. Where a tokenizer has to be learned first, the records wait in a spool.
"""

import hashlib
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from headway.base.errors import Refusal
from headway.base.files import hash_bytes
from headway.base.pulse import Pulse
from headway.base.version import __version__
from headway.data import tokenizer as tokenizers
from headway.data.cache import Cache
from headway.data.chat import CHATML, Template, chatml_for
from headway.data.examples import Example, chat_examples, end_of, marked, text_examples
from headway.data.formats import Skipped, read
from headway.data.records import Kind, Record, Rejected
from headway.data.refused import beyond_embedding, mixed, nothing, too_many_rejected
from headway.data.source import Source
from headway.data.spool import Spool
from headway.data.store import Store, StoreWriter, summary
from headway.data.surveyed import Survey
from headway.data.tokenizer import TURN_END, Tokenizer

BYTE_LEVEL_BELOW = 1_000_000  # bytes of text; less has too few pairs to merge
_BATCH_RECORDS = 256
_BATCH_CHARACTERS = 500_000


@dataclass(frozen=True)
class Ask:
    """What decides, beside their content, how sources become examples.

    Attributes:
        tokenizer: a folder or tokenizer.json; None: learn one from the data.
        vocab_size: of a tokenizer that is learned.
        template: a chat template instead of the tokenizer's own.
        assistant_only: conversations: only the answers are trained.
    """

    tokenizer: Path | None
    vocab_size: int
    template: str | None
    assistant_only: bool

    def key(self, *content: object) -> str:
        """sha256 over all of this, over the code's version, and over the content."""
        words = tokenizers.fingerprint(self.tokenizer) if self.tokenizer else self.vocab_size
        chat = (self.template or "", CHATML, self.assistant_only)
        return hash_bytes(msgspec.json.encode((__version__, words, chat, content)))


def survey(
    sources: Sequence[Source],
    *,
    tokenizer: Path | None,
    vocab_size: int,
    max_rejected: float,
    cache: Path,
    pulse: Pulse,
    assistant_only: bool = True,
    template: str | None = None,
    embedding_rows: int | None = None,
    conversations: Refusal | None = None,
) -> Store:
    """Read, check, count and tokenise the sources; a second time they are only looked up.

    Args:
        sources: from `find`.
        tokenizer: a folder or tokenizer.json; None: learn one from the data, byte-level when
            that is under a megabyte of text.
        vocab_size: of a tokenizer that is learned.
        max_rejected: share of unusable rows above which the data is refused.
        cache: the folder that stores are kept in.
        pulse: told how far it is, and what is being waited for.
        assistant_only: conversations: train on the answers alone.
        template: a chat template instead of the tokenizer's own.
        embedding_rows: of the model; every id must be smaller. None: as many as are needed.
        conversations: raised when the data are conversations; None: they are welcome.

    Returns:
        The store. Its folder also holds the tokenizer's files.

    Raises:
        DataRefused: there is nothing to train on, or too much that cannot be.
        UsageError: a source cannot be read, or the tokenizer cannot be loaded.
        ComeBack: a source changed while it was being read.
        MachineError: the cache cannot be written.
    """
    ask = Ask(tokenizer, vocab_size, template, assistant_only)
    stores = Cache(cache)
    seen = None if any(s.is_stream for s in sources) else ask.key([_identity(s) for s in sources])
    store = stores.seen_before(seen) if seen else None
    if store is None:
        with stores.new_folder() as folder:
            found = _fill(folder, ask, sources, conversations, pulse)
            key = ask.key(found.fingerprint, found.sources)
            store = stores.publish(folder, key, seen)
    if conversations and store.survey.kind == "conversations":
        raise conversations
    if sum(store.survey.records_rejected.values()) > max_rejected * store.survey.records_read:
        raise too_many_rejected(store, max_rejected)
    if embedding_rows is not None and store.survey.max_id >= embedding_rows:
        raise beyond_embedding(store, embedding_rows)
    return store


def _identity(source: Source) -> tuple[str, bytes, tuple[int | str, ...]]:
    assert source.path is not None
    return source.name, os.fsencode(source.path.absolute()), source.stamp


def _fill(
    folder: Path,
    ask: Ask,
    sources: Sequence[Source],
    conversations: Refusal | None,
    pulse: Pulse,
) -> Survey:
    """Make a store of the sources in an empty folder."""
    began_s = time.monotonic()
    reading = _Reading(sources, conversations, pulse)
    num_bytes = 0 if any(s.is_stream for s in sources) else sum(s.size for s in sources)
    if ask.tokenizer:
        with pulse.phase("loading the tokenizer"):
            tokenizer = tokenizers.load(ask.tokenizer)
        with pulse.phase("tokenising", total=num_bytes, unit="bytes"):
            return _tokenise(folder, ask, tokenizer, reading.records(), reading, began_s)
    with tempfile.SpooledTemporaryFile(max_size=1 << 23, dir=str(folder)) as file:
        spool = Spool(file, pulse)
        with pulse.phase("reading", total=num_bytes, unit="bytes"):
            spool.take(reading.records())
        tokenizer = tokenizers.byte_level()
        if spool.text_bytes >= BYTE_LEVEL_BELOW:
            with pulse.phase("training a tokenizer", total=spool.num_bytes, unit="bytes"):
                tokenizer = tokenizers.train(spool.sample(), ask.vocab_size)
        with pulse.phase("tokenising", total=spool.num_bytes, unit="bytes"):
            return _tokenise(folder, ask, tokenizer, spool.records(), reading, began_s)


def _tokenise(
    folder: Path,
    ask: Ask,
    tokenizer: Tokenizer,
    records: Iterable[Record | None],
    reading: "_Reading",
    began_s: float,
) -> Survey:
    filling = None
    try:
        for batch in _batches(records):
            filling = filling or _Filling(folder, ask, tokenizer, batch[0].kind, reading)
            filling.take(batch)
        assert filling is not None, "a reading without records is refused"
        return filling.finish(began_s)
    finally:
        if filling:
            filling.writer.close()


def _batches(records: Iterable[Record | None]) -> Iterator[list[Record]]:
    """Lists of records for the tokenizer; short ones where the next record is waited for."""
    batch: list[Record] = []
    num_characters = 0
    for record in records:
        if record is not None:
            batch.append(record)
            num_characters += sum(map(len, record.texts))
        full = len(batch) >= _BATCH_RECORDS or num_characters >= _BATCH_CHARACTERS
        if batch and (full or record is None):
            yield batch
            batch, num_characters = [], 0
    if batch:
        yield batch


class _Reading:
    """One pass over the sources: usable records come out, all else is counted."""

    def __init__(
        self, sources: Sequence[Source], conversations: Refusal | None, pulse: Pulse
    ) -> None:
        self.sources = sources
        self.conversations = conversations
        self.pulse = pulse
        self.num_bytes = 0
        self.rejected: list[Rejected] = []
        self.skipped: list[Skipped] = []
        self.kinds: Counter[Kind] = Counter()
        self._first: dict[Kind, Record] = {}
        self._digests: list[bytes] = []

    @property
    def fingerprint(self) -> str:
        """sha256 over the content of the sources, in order; names do not count."""
        return hash_bytes(b"".join(self._digests))

    def records(self) -> Iterator[Record | None]:
        """The usable records of one kind; None where the next one has to be waited for.

        Raises:
            DataRefused: there were none, or both texts and conversations.
            Refusal: the one for conversations.
        """
        for source in self.sources:
            num_skipped = len(self.skipped)
            digest = hashlib.sha256()
            for item in read(source, partial(self._count, digest.update), self.pulse):
                if isinstance(item, Rejected):
                    self.reject(item)
                elif isinstance(item, Skipped):
                    self.skipped.append(item)
                elif item is None or self._welcome(item):
                    yield item
            if len(self.skipped) == num_skipped:
                self._digests.append(digest.digest())
        if len(self.kinds) > 1:
            raise mixed(self.kinds, self._first)
        if not self.kinds:
            raise nothing(self.sources, self.rejected, self.skipped)

    def reject(self, rejected: Rejected) -> None:
        """Count a record that cannot be trained on."""
        self.rejected.append(rejected)
        self.pulse.skipped = len(self.rejected)

    def _count(self, update: Callable[[bytes], None], chunk: bytes) -> None:
        update(chunk)
        self.num_bytes += len(chunk)
        self.pulse.progress(self.num_bytes)

    def _welcome(self, record: Record) -> bool:
        if self.conversations and record.kind == "conversations":
            raise self.conversations
        self.kinds[record.kind] += 1
        self._first.setdefault(record.kind, record)
        self.pulse.rows += 1
        return record.kind == next(iter(self.kinds))


class _Filling:
    """A store on its way: records in, examples written and counted."""

    def __init__(
        self, folder: Path, ask: Ask, tokenizer: Tokenizer, kind: Kind, reading: _Reading
    ) -> None:
        self.folder = folder
        self.ask = ask
        self.reading = reading
        self.pulse = reading.pulse
        self.template: Template | None = None
        self.template_from = ""
        if kind == "conversations":
            own = tokenizer.chat_template
            if ask.tokenizer is None:
                tokenizer = tokenizer.ending_in(TURN_END)
            self.template_from = "as given" if ask.template else "its own" if own else "ChatML"
            tokenizer = tokenizer.with_template(ask.template or own or chatml_for(tokenizer))
            self.template = Template(tokenizer)
        self.tokenizer = tokenizer
        self.writer = StoreWriter(folder, kind, tokenizer.vocab_size)
        self.num_characters = 0
        self.first: Example | None = None

    def take(self, batch: Sequence[Record]) -> None:
        """Make examples of some records."""
        for record, made in zip(batch, self._examples(batch), strict=True):
            if isinstance(made, Rejected):
                self.pulse.rows -= 1
                self.reading.reject(made)
            else:
                self.writer.add(made)
                self.num_characters += sum(map(len, record.texts))
                self.first = self.first or made
        self.pulse.beat()

    def _examples(self, batch: Sequence[Record]) -> Sequence[Example | Rejected]:
        if self.template is None:
            return text_examples(batch, self.tokenizer, self._tick)
        only = self.ask.assistant_only
        return chat_examples(
            batch, self.tokenizer, self.template, assistant_only=only, tick=self._tick
        )

    def _tick(self, num_tokens: int) -> None:
        self.pulse.tokens += num_tokens
        self.pulse.beat()

    def finish(self, began_s: float) -> Survey:
        """Write what is left of the store.

        Raises:
            DataRefused: no example came of the records.
        """
        reading, writer, words = self.reading, self.writer, self.tokenizer
        if self.first is None:
            raise nothing(reading.sources, reading.rejected, reading.skipped)
        for rejected in reading.rejected:
            writer.reject(rejected)
        lengths = writer.lengths()
        template = words.chat_template if self.template else None
        survey = Survey(
            kind=writer.kind,
            sources=tuple(source.name for source in reading.sources),
            records_read=len(lengths) + len(reading.rejected),
            records_rejected=dict(Counter(one.reason for one in reading.rejected)),
            records_accepted=len(lengths),
            bytes=reading.num_bytes,
            characters=self.num_characters,
            tokens=writer.num_tokens,
            trained_tokens=writer.num_trained,
            lengths=summary(lengths),
            vocab_size=words.vocab_size,
            max_id=writer.max_id,
            end_id=end_of(self.first, words),
            fingerprint=reading.fingerprint,
            tokenizer=words.fingerprint,
            tokenizer_from=words.origin,
            template=hash_bytes(template.encode()) if template else "",
            marked_example=marked(self.first, words),
            seconds=time.monotonic() - began_s,
            template_from=self.template_from,
            files_skipped=dict(Counter(one.reason for one in reading.skipped)),
        )
        words.save(self.folder)
        writer.finish(survey)
        return survey
