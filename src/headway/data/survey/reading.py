"""One pass over sources, or parts of them: yields usable records and counts the rest."""

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


@dataclass(frozen=True)
class Part:
    """What is read of a source: all of it, or less.

    Attributes:
        source: from `find`.
        span: bytes of it; None: from the beginning.
        most: stop when so many stored bytes were read; None: at its end.
    """

    source: Source
    span: Span | None = None
    most: int | None = None


class Reading:
    """One pass.

    Args:
        sources: all that were found.
        parts: what to read of them, in order.
        conversations: raised at the first conversation; None: they are welcome.
        drop_duplicates: pass over records that say what an earlier one said.
        skip_corrupt: pass over what follows the damage in a compressed file.
        pulse: told how far it is.

    Attributes:
        num_bytes: as stored, so far.
        rejected: records that cannot be trained on.
        skipped: files of a folder that were passed over.
        shapes: what the rows were taken for, and how many of each.
        contents: sha256 of what was read, by source; with its size where that is a part.
        bytes_of: stored bytes that were read, by part.
        records_of: records that came of it, by part.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        parts: Sequence[Part],
        conversations: Refusal | None,
        *,
        drop_duplicates: bool,
        skip_corrupt: bool,
        pulse: Pulse,
    ) -> None:
        self.sources = sources
        self.parts = parts
        self.conversations = conversations
        self.drop_duplicates = drop_duplicates
        self.skip_corrupt = skip_corrupt
        self.pulse = pulse
        self.num_bytes = 0
        self.rejected: list[Rejected] = []
        self.skipped: list[Skipped] = []
        self.shapes: Counter[str] = Counter()
        self.contents: dict[str, str] = {}
        self.bytes_of: list[int] = []
        self.records_of: list[int] = []
        self._kinds: Counter[DataKind] = Counter()
        self._first: dict[DataKind, Record] = {}
        self._lines = LineNumbers()
        self._seen: set[bytes] = set()  # where duplicates are dropped as they come
        self._keys = array("Q")  # where they are counted at the end: eight bytes a record

    @property
    def duplicates(self) -> int:
        """Records that say what an earlier one said."""
        dropped = sum(one.reason is RejectReason.DUPLICATE for one in self.rejected)
        return dropped + len(self._keys) - len(np.unique(np.asarray(self._keys)))

    def records(self) -> Iterator[Record]:
        """The usable records of one kind.

        Raises:
            DataRefused: there were none, or records of several kinds.
            Refusal: the one for conversations.
        """
        hashes = {part.source.name: hashlib.sha256() for part in self.parts}
        for part in self.parts:
            num_skipped = len(self.skipped)
            self.bytes_of.append(0)
            self.records_of.append(0)
            with contextlib.suppress(_EnoughError):
                for item in self._items(part, hashes[part.source.name].update):
                    if isinstance(item, Rejected):
                        self._reject(item, len(self.bytes_of) - 1)
                    elif isinstance(item, Skipped):
                        self.skipped.append(item)
                    elif self._is_accepted(item):
                        self.records_of[-1] += 1
                        yield item
            if len(self.skipped) > num_skipped:
                del hashes[part.source.name]  # passed over: its content does not count
        sizes = {p.source.name: f"{p.source.size}:" if p.most else "" for p in self.parts}
        self.contents = {name: sizes[name] + one.hexdigest() for name, one in hashes.items()}
        if len(self._kinds) > 1:
            raise mixed_kinds(self._kinds, self._first)
        if not self._kinds:
            raise no_usable_records(self.sources, self.rejected, self.skipped)

    def unmade(self, rejected: Rejected, number: int) -> None:
        """Count a record that no example could be made of.

        Args:
            rejected: why.
            number: of the records that came out, from 0.
        """
        self.pulse.rows -= 1
        self._reject(rejected, bisect.bisect_right(list(accumulate(self.records_of)), number))

    def _reject(self, rejected: Rejected, part: int) -> None:
        read = self.parts[part]
        self.rejected.append(self._lines.in_file(rejected, read.source, read.span))
        self.pulse.skipped = len(self.rejected)

    def _items(self, part: Part, update: Callable[[bytes], None]) -> Iterator[Item]:
        def count(chunk: bytes) -> None:
            if part.most is not None and self.bytes_of[-1] >= part.most:
                raise _EnoughError
            update(chunk)
            self.num_bytes += len(chunk)
            self.bytes_of[-1] += len(chunk)
            self.pulse.progress(self.num_bytes)

        return read(part.source, count, self.pulse, span=part.span, skip_corrupt=self.skip_corrupt)

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
            self._reject(duplicate, len(self.bytes_of) - 1)
            return True
        self._seen.add(content)
        return False


class _EnoughError(Exception):
    """So many bytes of a part were read as it was to give."""
