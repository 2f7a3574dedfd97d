"""Notes on the accepted records: counts worth reporting."""

from collections import Counter

from headway.data.examples.examples import Example
from headway.data.formats.records import Record

_COUNTED_FIELDS = 1000  # different names; rows may have names of their own
_SHOWN_FIELDS = 6


class RecordNotes:
    """Counts notes, and the fields that nothing reads."""

    def __init__(self) -> None:
        self._notes: Counter[str] = Counter()
        self._fields: Counter[str] = Counter()
        self._num_rows = 0  # with such fields

    def add(self, record: Record, example: Example) -> None:
        """Count what a record and its example say."""
        self._notes.update(example.notes)
        for note, number in record.notes:
            self._notes[note] += number
        if record.unread:
            self._num_rows += 1
            for name in record.unread:
                if name in self._fields or len(self._fields) < _COUNTED_FIELDS:
                    self._fields[name] += 1

    def counts(self) -> dict[str, int]:
        """How often each note applies."""
        if not self._num_rows:
            return dict(self._notes)
        names = [name for name, _ in self._fields.most_common()]
        shown = ", ".join(name[:40] for name in names[:_SHOWN_FIELDS])
        more = ", ..." if len(names) > _SHOWN_FIELDS else ""
        rows = "row has fields" if self._num_rows == 1 else "rows have fields"
        return {**self._notes, f"{rows} that are not read: {shown}{more}": self._num_rows}
