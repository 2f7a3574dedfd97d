"""Single pass over the sources: usable records, and counts of rejected and skipped ones."""

import bisect
import contextlib
import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from headway.base.errors import Refusal
from headway.base.foreign.boundary import Interruption
from headway.base.pulse import Pulse
from headway.data.formats.detect import read
from headway.data.formats.lines import LineNumbers
from headway.data.formats.records import (
    DataKind,
    Item,
    Record,
    Rejected,
    RejectReason,
    Skipped,
    content_key,
)
from headway.data.sources.source import Source, Span
from headway.data.survey.refusals import mixed_kinds, no_usable_records

# Reasons to pass over a part of a file whose other rows are read.
_OF_A_PART = (RejectReason.OTHER_SPLIT,)


@dataclass(frozen=True)
class Part:
    """A source, or the part of it to read.

    Attributes:
        source: from `find_sources`.
        span: bytes to read; None: the source from its beginning.
        max_bytes: stored bytes after which to stop; None: no limit.
    """

    source: Source
    span: Span | None = None
    max_bytes: int | None = None


class Reading:
    """One pass over parts of the sources.

    Args:
        sources: all sources that were found.
        parts: the parts to read, in order.
        conversations: raised at the first conversation; None: conversations are allowed.
        drop_duplicates: reject records with the same content as an earlier one.
        skip_corrupt: skip the rest of a damaged file.
        preferred_only: read the preferred answers of preference data.
        pulse: shows the progress.

    Attributes:
        num_bytes: stored bytes read so far.
        rejected: records that cannot be trained on.
        skipped: files that were skipped.
        shapes: number of rows in each format.
        contents: sha256 of the bytes read from each source, by its name; prefixed with its size if
            the reading was limited.
        bytes_by_part: stored bytes read from each part.
        records_by_part: usable records read from each part.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        parts: Sequence[Part],
        conversations: Refusal | None,
        *,
        drop_duplicates: bool,
        skip_corrupt: bool,
        preferred_only: bool = False,
        pulse: Pulse,
    ) -> None:
        self.sources = sources
        self.parts = parts
        self.conversations = conversations
        self.drop_duplicates = drop_duplicates
        self.skip_corrupt = skip_corrupt
        self.preferred_only = preferred_only
        self.pulse = pulse
        self.num_bytes = 0
        self.rejected: list[Rejected] = []
        self.skipped: list[Skipped] = []
        self.shapes: Counter[str] = Counter()
        self.contents: dict[str, str] = {}
        self.bytes_by_part: list[int] = []
        self.records_by_part: list[int] = []
        self._kinds: Counter[DataKind] = Counter()
        self._first: dict[DataKind, Record] = {}
        self._lines = LineNumbers(pulse)
        self._seen: set[bytes] = set()  # content keys, to drop duplicates
        self._keys = array("Q")  # otherwise: eight bytes per record, to count duplicates at the end

    @property
    def duplicates(self) -> int:
        """Records with the same content as an earlier one."""
        dropped = sum(one.reason is RejectReason.DUPLICATE for one in self.rejected)
        return dropped + len(self._keys) - len(np.unique(np.asarray(self._keys)))

    def records(self) -> Iterator[Record]:
        """The usable records, which are all of one kind.

        Raises:
            EmptySampleError: the parts hold no whole row.
            DataRefused: there are none, or records of several kinds.
            Refusal: there is a conversation, and `conversations` is set.
        """
        hashes = {part.source.name: hashlib.sha256() for part in self.parts}
        for part in self.parts:
            num_skipped = len(self.skipped)
            self.bytes_by_part.append(0)
            self.records_by_part.append(0)
            with contextlib.suppress(_EnoughError):
                for item in self._items(part, hashes[part.source.name].update):
                    if isinstance(item, Rejected):
                        self._reject(item, len(self.bytes_by_part) - 1)
                    elif isinstance(item, Skipped):
                        self.skipped.append(item)
                    elif self._is_accepted(item):
                        self.records_by_part[-1] += 1
                        yield item
            if any(one.reason not in _OF_A_PART for one in self.skipped[num_skipped:]):
                del hashes[part.source.name]  # the content of a skipped file does not count
        sizes = {p.source.name: f"{p.source.size}:" if p.max_bytes else "" for p in self.parts}
        self.contents = {name: sizes[name] + one.hexdigest() for name, one in hashes.items()}
        if len(self._kinds) > 1:
            raise mixed_kinds(self._kinds, self._first)
        if not self._kinds and not self.rejected and not self.skipped:
            raise EmptySampleError
        if not self._kinds:
            raise no_usable_records(self.sources, self.rejected, self.skipped)

    def reject_record(self, rejected: Rejected, number: int) -> None:
        """Reject a record that `records` yielded, because it gives no example.

        Args:
            rejected: the record and the reason.
            number: which of the yielded records it is, counted from 0.
        """
        self.pulse.rows -= 1
        self._reject(rejected, bisect.bisect_right(list(accumulate(self.records_by_part)), number))

    def _reject(self, rejected: Rejected, part: int) -> None:
        read = self.parts[part]
        self.rejected.append(self._lines.in_file(rejected, read.source, read.span))
        self.pulse.skipped = len(self.rejected)

    def _items(self, part: Part, update: Callable[[bytes], None]) -> Iterator[Item]:
        def count(chunk: bytes) -> None:
            if part.max_bytes is not None and self.bytes_by_part[-1] >= part.max_bytes:
                raise _EnoughError
            update(chunk)
            self.num_bytes += len(chunk)
            self.bytes_by_part[-1] += len(chunk)
            self.pulse.progress(self.num_bytes)

        return read(
            part.source,
            count,
            self.pulse,
            span=part.span,
            skip_corrupt=self.skip_corrupt,
            preferred_only=self.preferred_only,
        )

    def _is_accepted(self, record: Record) -> bool:
        if self.conversations and record.kind == "conversations":
            raise self.conversations
        self._kinds[record.kind] += 1
        self._first.setdefault(record.kind, record)
        self.shapes[record.shape] += 1
        if record.kind != next(iter(self._kinds)):
            return False
        if self._is_dropped(record):
            return False
        self.pulse.rows += 1
        return True

    def _is_dropped(self, record: Record) -> bool:
        content = content_key(record)
        if not self.drop_duplicates:
            self._keys.append(int.from_bytes(content[:8], "little"))
            return False
        if content in self._seen:
            duplicate = Rejected(record.file, record.line, RejectReason.DUPLICATE)
            self._reject(duplicate, len(self.bytes_by_part) - 1)
            return True
        self._seen.add(content)
        return False


class EmptySampleError(Exception):
    """No row begins and ends in the parts that were read."""


class _EnoughError(Interruption):
    """The part's limit of bytes has been read."""
