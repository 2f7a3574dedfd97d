"""Numbers as people read and write them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.base import units

ONE_DECIMAL = 0.051


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (1598, "1,598"), (999_949, "999,949"), (3_049_920, "3.0 M"), (2e12, "2.0 T")],
)
def test_counts(number: float, text: str) -> None:
    assert units.short_count(number) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3_200_000, "3.2 MB"), (999_999, "1.0 MB")],
)
def test_sizes(num_bytes: int, text: str) -> None:
    assert units.size(num_bytes) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (-1, "0.0 s"),
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
        (599.6, "10 min"),
        (7500, "2 h 5 min"),
        (3600, "1 h"),
        (200_000, "2.3 days"),
    ],
)
def test_durations(duration_s: float, text: str) -> None:
    assert units.seconds(duration_s) == text


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0.0004, "0.4 ms"),
        (0.00994, "9.9 ms"),
        (0.00996, "10 ms"),
        (0.034, "34 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (75, "1 min 15 s"),
    ],
)
def test_short_times(duration_s: float, text: str) -> None:
    assert units.short_time(duration_s) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0.97, 1, "97%"), (0.004, 1, "0.4%"), (0, 1, "0%"), (1, 0, "0%"), (1, 3, "33%")],
)
def test_shares(part: float, whole: float, text: str) -> None:
    assert units.share(part, whole) == text


@pytest.mark.parametrize(("rate", "text"), [(0.0002, "2e-4"), (0.00025, "2.5e-4"), (1.0, "1e0")])
def test_learning_rates(rate: float, text: str) -> None:
    assert units.learning_rate(rate) == text


def test_plurals() -> None:
    assert units.plural(1, "row") == "1 row"
    assert units.plural(1000, "row") == "1,000 rows"
    assert units.plural(2, "batch", "batches") == "2 batches"


@given(st.integers(0, 10**15))
def test_a_printed_size_reads_back(num_bytes: int) -> None:
    assert units.read_size(units.size(num_bytes)) == pytest.approx(num_bytes, rel=ONE_DECIMAL)


@given(st.integers(0, 10**15))
def test_a_printed_size_is_never_a_thousand_of_its_unit(num_bytes: int) -> None:
    number, unit = units.size(num_bytes).split()
    assert float(number) < 1000 or unit == "TB"


@given(st.floats(0, 48 * 3600 - 60))
def test_a_printed_duration_reads_back(duration_s: float) -> None:
    printed = units.seconds(duration_s)
    slack_s = 30.51 if "h" in printed or duration_s >= 599 else 0.51
    assert units.read_seconds(printed) == pytest.approx(duration_s, abs=slack_s)


@given(st.floats(1e-9, 1e3))
def test_a_printed_learning_rate_reads_back(rate: float) -> None:
    assert float(units.learning_rate(rate)) == pytest.approx(rate, rel=0.0051)


@given(st.integers(0, 10**12), st.sampled_from(["", " ", "  "]))
def test_a_size_may_have_a_space_before_its_unit(number: int, space: str) -> None:
    assert units.read_size(f"{number}{space}KiB") == number * 1024


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [("90", 90), ("1.5", 1.5), ("10m", 600), ("1h30m", 5400), ("2 min", 120), ("1 h 5 min", 3900)],
)
def test_durations_read(text: str, duration_s: float) -> None:
    assert units.read_seconds(text) == duration_s


@pytest.mark.parametrize("text", ["", "m", "10x", "1.2.3", "-5", "1h30", "1 0", "10m!", "ten"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration like 90, 10m or 1h30m"):
        units.read_seconds(text)


@pytest.mark.parametrize("text", ["", "MB", "-5", "5 parsecs", "1.2.3", "64MBs"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size like 64MB"):
        units.read_size(text)


@given(st.text(max_size=12))
def test_any_text_is_read_or_refused_with_one_kind_of_error(text: str) -> None:
    for read in (units.read_size, units.read_seconds):
        with contextlib.suppress(ValueError):
            assert read(text) >= 0
