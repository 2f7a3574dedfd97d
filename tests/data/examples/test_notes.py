"""Notes are read after their number, by people."""

import pytest

from headway.data.examples.notes import LOST, ExampleNote


@pytest.mark.parametrize("note", list(ExampleNote))
def test_a_note_continues_a_line_that_begins_with_a_number(note: ExampleNote) -> None:
    assert note.value[0].islower()
    assert note.value[-1] not in ".:"


def test_what_is_lost_is_said_of_the_template() -> None:
    assert {
        note for note in ExampleNote if note.value.endswith("the template does not write")
    } == set(LOST)
