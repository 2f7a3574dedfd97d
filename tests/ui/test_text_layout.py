import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.ui import text_layout as layout

words = st.text(st.characters(exclude_categories=("Cs",)), max_size=80)


def test_cells_counts_what_a_terminal_shows() -> None:
    assert layout.cells("loss 2.45") == 9
    assert layout.cells("日本") == 4
    assert layout.cells("e\u0301") == 1


@settings(deadline=None)
@given(words)
def test_one_line_lets_nothing_through_that_moves_a_cursor(text: str) -> None:
    assert layout.one_line(text).isprintable()


def test_one_line_keeps_line_breaks_visible() -> None:
    assert layout.one_line("\x1b[31mred\r\nblue\tgreen\n") == "�[31mred↵blue green"


@settings(deadline=None)
@given(words, st.integers(2, 40))
def test_cut_never_exceeds_its_width(text: str, width: int) -> None:
    assert layout.cells(layout.cut(text, width)) <= width


@settings(deadline=None)
@given(words, st.integers(2, 40))
def test_fold_never_exceeds_its_width_and_loses_no_word(text: str, width: int) -> None:
    lines = layout.fold(text, width)
    assert max(map(layout.cells, lines)) <= width
    assert "".join(lines).replace(" ", "") == layout.printable(text).replace(" ", "")


def test_flow_fills_lines_and_never_ends_one_with_a_dot() -> None:
    lines = layout.flow(["one", "two", "three", "a part longer than the line"], 12)
    assert lines == ["one · two", "three", "a part", "longer than", "the line"]


def test_narrowed_drops_the_least_important_fact_first() -> None:
    parts = [(0, "step 3"), (2, "4 tok/s"), (1, "4 min left")]
    assert layout.narrowed(parts, 40) == "step 3 · 4 tok/s · 4 min left"
    assert layout.narrowed(parts, 22) == "step 3 · 4 min left"
    assert layout.narrowed(parts, 10) == "step 3"
    assert layout.narrowed(parts, 4) == "ste…"


def test_a_fact_in_brackets_belongs_to_the_one_before() -> None:
    assert layout.joined(["loss 2.45", "(avg 2.61)", "4 tok/s"]) == "loss 2.45 (avg 2.61) · 4 tok/s"


def test_table_aligns_wide_characters_too() -> None:
    assert layout.table([["run", "step"], ["日本", "7"]], right=(1,)) == [
        "run   step",
        "日本     7",
    ]


@pytest.mark.parametrize(
    ("age_s", "shown"),
    [
        (-1, "0.0 s"),
        (4.24, "4.2 s"),
        (9.97, "0:10"),
        (42, "0:42"),
        (605, "10:05"),
        (3727, "1:02:07"),
    ],
)
def test_clock_moves_every_second(age_s: float, shown: str) -> None:
    assert layout.clock(age_s) == shown


@pytest.mark.parametrize(
    ("loss", "shown"),
    [
        (2.449, "2.45"),
        (0.1, "0.10"),
        (0.0132, "0.013"),
        (0.0, "0"),
        (4e-5, "4e-05"),
        (1.2e30, "1.2e+30"),
        (float("nan"), "nan"),
    ],
)
def test_a_small_loss_is_never_shown_as_zero(loss: float, shown: str) -> None:
    assert layout.loss_text(loss) == shown


def test_spark_falls_with_the_loss() -> None:
    assert layout.spark([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert layout.spark([2.0, float("nan"), 1.0], 8) == "█▁"
    assert layout.spark([2.0], 8) == ""
    assert layout.spark([1.0, 1.0], 8) == "▁▁"


@settings(deadline=None)
@given(st.lists(st.floats(0, 100), min_size=2, max_size=300), st.integers(2, 40))
def test_spark_is_never_wider_than_asked(losses: list[float], width: int) -> None:
    assert len(layout.spark(losses, width)) == min(len(losses), width)


@settings(deadline=None)
@given(st.floats(-1, 2), st.integers(1, 100))
def test_bar_is_as_wide_as_asked(part: float, width: int) -> None:
    filled, empty = layout.bar(part, width)
    assert len(filled + empty) == width
