"""Source splits: parts that are read separately, in a random order for each epoch."""

from collections.abc import Sequence

import numpy as np

from headway.base.pulse import Pulse
from headway.data.formats.compressed import suffix_of
from headway.data.formats.detect import line_format
from headway.data.formats.text import LONGEST_WHOLE
from headway.data.order import mix_key, permute
from headway.data.sources.source import Source, Span

PART_BYTES = 1 << 18
_EPOCH_KEY = 1 << 41  # added to the epoch: the order of parts has its own random numbers


class SourceParts:
    """Sources as numbered parts: spans of files that can be split, and other sources whole.

    Args:
        sources: from `find_sources`.
        pulse: beats for each of them: local ones are opened.
    """

    def __init__(self, sources: Sequence[Source], pulse: Pulse) -> None:
        self.sources = tuple(sources)
        parts: list[int] = []
        for source in sources:
            pulse.beat()
            parts.append(max(1, -(-source.size // PART_BYTES)) if can_split(source) else 1)
        self._ends = np.cumsum(parts, dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, part: int) -> tuple[Source, Span | None]:
        number = int(np.searchsorted(self._ends, part, side="right"))
        source = self.sources[number]
        before = int(self._ends[number - 1]) if number else 0
        if int(self._ends[number]) - before == 1:
            return source, None
        begin = (part - before) * PART_BYTES
        return source, Span(begin, min(begin + PART_BYTES, source.size))

    def at(self, seed: int, epoch: int, place: int) -> int:
        """The number of the part at a place in an epoch."""
        return int(permute(np.array([place]), len(self), mix_key(seed, _EPOCH_KEY + epoch))[0])


def can_split(source: Source) -> bool:
    """Whether reading can start at any line: true for uncompressed local files of lines."""
    if source.path is None or source.is_stream or suffix_of(source.name):
        return False
    try:
        found = line_format(source)
    except OSError:  # reported, or skipped, when the file is read
        return False
    return found == "jsonl" or (found == "text" and source.size > LONGEST_WHOLE)
