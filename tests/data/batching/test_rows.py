"""Rows: every target in exactly one window, no piece across documents, every cut counted."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import chat_store, text_store

from headway.data.batching.rows import ConversationRows, Piece, Rows, TextRows, rows_of

FLAGS = st.text(alphabet=".x", min_size=1, max_size=12).map(lambda s: "." + s)


def targets(rows: Rows, row: int) -> list[int]:
    """Positions in the store that a row learns to predict."""
    trained = rows.store.trained
    return [
        at
        for piece in rows.pieces(row)
        for at in range(piece.begin + 1, piece.end + 1)
        if trained is None or trained[at]
    ]


def document_of(rows: Rows, position: int) -> int:
    return max(d for d, start in enumerate(rows.store.starts[:-1]) if start <= position)


# ---- text --------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 20))
def test_every_target_of_a_text_is_in_one_window(lengths: list[int], max_length: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = TextRows(text_store(Path(folder), *lengths), max_length)
        starts = set(rows.store.starts.tolist())
        wanted = [at for at in range(sum(lengths)) if at not in starts]
        found = [at for row in range(rows.num_rows) for at in targets(rows, row)]
        assert found == wanted  # in order, each once
        assert rows.num_targets == rows.num_trained() == len(wanted)
        assert rows.num_full == len(wanted) // max_length
        assert rows.has_short == (len(wanted) % max_length > 0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 20))
def test_pieces_stay_in_their_document_and_have_a_target_per_input(
    lengths: list[int], max_length: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = TextRows(text_store(Path(folder), *lengths), max_length)
        for row, length in enumerate(rows.lengths().tolist()):
            pieces = rows.pieces(row)
            assert sum(map(len, pieces)) == length == len(targets(rows, row))
            assert length == max_length or row == rows.num_full
            for piece in pieces:
                assert len(piece) >= 1
                assert document_of(rows, piece.begin) == document_of(rows, piece.end)


def test_windows_of_text_as_the_drawing_shows(tmp_path: Path) -> None:
    rows = rows_of(text_store(tmp_path, 5, 6), 4)
    assert [rows.pieces(row) for row in range(rows.num_rows)] == [
        [Piece(0, 4)],
        [Piece(5, 9)],
        [Piece(9, 10)],
    ]
    assert (rows.num_full, rows.has_short) == (2, True)


def test_a_window_over_two_documents_has_a_piece_of_each(tmp_path: Path) -> None:
    rows = rows_of(text_store(tmp_path, 3, 1, 4), 4)
    assert rows.pieces(0) == [Piece(0, 2), Piece(4, 6)]
    assert rows.pieces(1) == [Piece(6, 7)]


def test_documents_of_one_token_make_no_row(tmp_path: Path) -> None:
    rows = rows_of(text_store(tmp_path, 1, 1, 1), 4)
    assert (rows.num_full, rows.has_short, rows.num_trained()) == (0, False, 0)


# ---- conversations -----------------------------------------------------------------------------


@given(st.lists(FLAGS, min_size=1, max_size=10), st.integers(2, 14))
def test_d04_conversations_are_cut_and_counted_as_by_hand(
    flags: list[str], max_length: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = ConversationRows(chat_store(Path(folder), *flags), max_length)
        cut = [one[:max_length] for one in flags]
        kept = [(number, one) for number, one in enumerate(cut) if "x" in one]
        assert rows.num_truncated == sum(len(one) > max_length for one in flags)
        assert rows.num_without_answer == len(flags) - len(kept)
        assert rows.num_full == rows.num_rows == len(kept)
        assert rows.num_trained() == sum(one.count("x") for _, one in kept)
        assert rows.lengths().tolist() == [one.rindex("x") for _, one in kept]
        for row, (number, one) in enumerate(kept):
            start = int(rows.store.starts[number])
            assert rows.pieces(row) == [Piece(start, start + one.rindex("x"))]
            assert targets(rows, row) == [start + at for at, c in enumerate(one) if c == "x"]


@pytest.mark.parametrize(
    ("flags", "max_length", "inputs", "truncated", "emptied"),
    [
        ("..xx", 4, [3], 0, 0),  # fits exactly
        ("..xx...", 8, [3], 0, 0),  # nothing after the last trained token is computed
        ("..xx...", 4, [3], 1, 0),  # longer than the limit, but no answer is lost
        ("..xxxx", 4, [3], 1, 0),  # half of the answer
        ("....xx", 4, [], 1, 1),  # the whole answer
    ],
)
def test_what_a_cut_leaves(
    tmp_path: Path, flags: str, max_length: int, inputs: list[int], truncated: int, emptied: int
) -> None:
    rows = rows_of(chat_store(tmp_path, flags), max_length)
    assert rows.lengths().tolist() == inputs
    assert (rows.num_truncated, rows.num_without_answer) == (truncated, emptied)


def test_b02_a_row_without_a_trained_token_does_not_exist(tmp_path: Path) -> None:
    rows = rows_of(chat_store(tmp_path, "..xx", "......xx", ".x", "......x."), 5)
    assert rows.num_rows == 2
    assert all(targets(rows, row) for row in range(rows.num_rows))


@pytest.mark.parametrize("kind", ["text", "chat"])
def test_d19_lengths_are_known_from_tokenizing_and_no_token_is_read_for_them(
    kind: str, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    store = text_store(folder, 50, 9) if kind == "text" else chat_store(folder, "..xx", ".xxx")
    del store.ids
    rows = rows_of(store, 8)
    assert len(rows.lengths()) == rows.num_rows
    assert rows.num_trained() > 0
