"""Records between the pass that reads and the pass that tokenises."""

import tempfile
from collections.abc import Iterable, Iterator

import msgspec

from headway.base.pulse import Pulse
from headway.data.formats.records import Record

LEARN_FROM = 50_000_000  # bytes of text that a tokenizer is learned from, about
_STRETCH = 50_000  # characters that learning a tokenizer takes at a time


class Spool:
    """Accepted records, in order.

    Args:
        file: kept in memory while it is small.
        pulse: told how many bytes of the spool were read again.

    Attributes:
        num_bytes: of the spool.
        text_bytes: of the text in it, as UTF-8.
    """

    def __init__(self, file: "tempfile.SpooledTemporaryFile[bytes]", pulse: Pulse) -> None:
        self._file = file
        self._pulse = pulse
        self.num_bytes = 0
        self.text_bytes = 0

    def take(self, records: Iterable[Record]) -> None:
        """Add records to the end."""
        for record in records:
            self.num_bytes += self._file.write(msgspec.json.encode(record) + b"\n")
            self.text_bytes += sum(len(text.encode()) for text in record.texts)

    def records(self) -> Iterator[Record]:
        """All of them again."""
        decoder = msgspec.json.Decoder(Record)
        self._file.seek(0)
        for line in self._file:
            self._pulse.progress(self._pulse.done + len(line))
            yield decoder.decode(line)

    def sample(self) -> Iterator[str]:
        """Stretches of text for a tokenizer to learn from, evenly out of all of it."""
        every = max(1, round(self.text_bytes / LEARN_FROM))
        stretches = (
            text[at : at + _STRETCH]
            for record in self.records()
            for text in record.texts
            for at in range(0, len(text), _STRETCH)
        )
        return (stretch for number, stretch in enumerate(stretches) if number % every == 0)
