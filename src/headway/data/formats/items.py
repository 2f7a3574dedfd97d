"""What reading gives: records, rows that are none, files passed over or damaged."""

from dataclasses import dataclass

from headway.data.formats.records import Record, Rejected
from headway.data.sources.source import Source


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that was passed over, whole or from a place on."""

    file: str
    reason: str  # a word or two that group: "binary", "damaged"
    detail: str = ""


Item = Record | Rejected | Skipped


class DamagedError(Exception):
    """A file breaks off or contradicts itself, so that what follows cannot be told from noise.

    The message says what and where, to be read after the file's name: "breaks off at byte 7".
    """


def unusable(source: Source, reason: str, detail: str = "") -> Skipped | Rejected:
    """A whole file without a record: passed over in a folder, rejected where it was named."""
    if source.found:
        return Skipped(source.name, reason, detail)
    return Rejected(source.name, 1, reason, detail)
