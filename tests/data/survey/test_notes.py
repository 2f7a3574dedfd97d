"""Notes on records are counted, and the fields that nothing reads are named."""

import numpy as np

from headway.data.examples.examples import Example
from headway.data.examples.notes import ExampleNote
from headway.data.formats.records import Record
from headway.data.survey.notes import RecordNotes


def counted(*records: Record, note: ExampleNote | None = None) -> dict[str, int]:
    notes = RecordNotes()
    ids = np.array([1, 2], np.int32)
    example = Example("f", 1, ids, ids > 1, (note,) if note else ())
    for record in records:
        notes.add(record, example)
    return notes.counts()


def test_notes_of_records_and_of_answers_are_added() -> None:
    records = [Record("f", 1, text="a", notes=(("padding tokens cut", n),)) for n in (3, 4)]
    assert counted(*records, note=ExampleNote.UNPROMPTED) == {
        ExampleNote.UNPROMPTED: 2,
        "padding tokens cut": 7,
    }


def test_fields_that_are_not_read_are_one_note_with_the_most_frequent_first() -> None:
    records = [Record("f", 1, text="a", unread=names) for names in (("id",), ("id", "url"), ())]
    assert counted(*records) == {"rows have fields that are not read: id, url": 2}
    assert counted(records[0]) == {"row has fields that are not read: id": 1}


def test_many_fields_are_few_words() -> None:
    records = [Record("f", n, text="a", unread=("id", f"field {n}")) for n in range(3000)]
    ((note, number),) = counted(*records).items()
    assert number == 3000
    assert note.startswith("rows have fields that are not read: id, field 0, ")
    assert len(note) < 150


def test_no_notes_are_none() -> None:
    assert counted(Record("f", 1, text="a")) == {}
