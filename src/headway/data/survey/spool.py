"""Record spool: accepted records, kept until the tokenizer has been trained."""

import tempfile
from collections.abc import Iterable, Iterator

import msgspec

from headway.base.pulse import Pulse
from headway.data.formats.records import Record

TRAINING_BYTES = 50_000_000  # approximate bytes of text that a tokenizer is trained on
_SAMPLE_CHARACTERS = 50_000  # per piece of the sample


class Spool:
    """Accepted records, in order.

    Args:
        file: holds the records; in memory while it is small.
        pulse: shows how much of the spool has been read again.

    Attributes:
        num_bytes: size of the spool.
        text_bytes: size of the text in it, as UTF-8.
    """

    def __init__(self, file: "tempfile.SpooledTemporaryFile[bytes]", pulse: Pulse) -> None:
        self._file = file
        self._pulse = pulse
        self.num_bytes = 0
        self.text_bytes = 0

    def take(self, records: Iterable[Record]) -> None:
        """Append records."""
        for record in records:
            self.num_bytes += self._file.write(msgspec.json.encode(record) + b"\n")
            self.text_bytes += sum(len(text.encode()) for text in record.texts)

    def records(self) -> Iterator[Record]:
        """Read all records again."""
        decoder = msgspec.json.Decoder(Record)
        self._file.seek(0)
        for line in self._file:
            self._pulse.progress(self._pulse.done + len(line))
            yield decoder.decode(line)

    def sample(self) -> Iterator[str]:
        """Evenly spaced pieces of the text, to train a tokenizer on."""
        every = max(1, round(self.text_bytes / TRAINING_BYTES))
        pieces = (
            text[at : at + _SAMPLE_CHARACTERS]
            for record in self.records()
            for text in record.texts
            for at in range(0, len(text), _SAMPLE_CHARACTERS)
        )
        return (piece for number, piece in enumerate(pieces) if number % every == 0)
