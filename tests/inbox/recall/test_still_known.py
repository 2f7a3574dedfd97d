"""What is still known: what counts as worse and forgotten, which files are measured."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from headway.inbox.recall.still_known import (
    FILE,
    MOST_FILES,
    SCHEMA,
    KnownFile,
    LearnedFile,
    StillKnown,
    files_to_measure,
    known_before,
    load_still_known,
)
from headway.runs.receipt import Measured


def measured(mean: float, error: float = 0.03) -> Measured:
    return Measured(mean, error, 8)


def losses(learned: float = 2.0, before: float = 2.0, now: float = 2.0) -> KnownFile:
    return KnownFile(1, "a.jsonl", True, measured(learned), measured(before), measured(now))


WORSE = losses(now=2.5)
NEWEST = KnownFile(2, "b.jsonl", True, measured(1.0), None, measured(1.0))


def known(*files: KnownFile) -> StillKnown:
    return StillKnown(SCHEMA, "checkpoint-4", (*files, NEWEST))


@pytest.mark.parametrize(
    ("one", "is_worse", "is_forgotten"),
    [
        (losses(), False, False),
        (losses(now=2.04), False, False),  # within the spread of 0.042
        (losses(now=2.05), True, True),
        (losses(now=1.0), False, False),
        (losses(before=2.5, now=2.5), False, True),  # an earlier file did it
        (losses(before=2.5, now=2.2), False, True),  # better again, but not as it was
        (losses(before=1.5, now=2.0), True, False),  # worse, but only as it was
        (replace(WORSE, now=None), False, False),
        (replace(WORSE, before=None), False, True),
    ],
)
def test_worse_is_worse_by_more_than_the_spread(
    one: KnownFile, is_worse: bool, is_forgotten: bool
) -> None:
    assert (one.is_worse, one.is_forgotten) == (is_worse, is_forgotten)
    assert known(one).is_nothing_forgotten == (not is_forgotten and one.now is not None)
    assert bool(known(one).warnings) == is_worse


def test_many_small_losses_are_one_large_one() -> None:
    """No file alone is to blame, and the gate closes nevertheless."""
    one = losses(before=2.04, now=2.08)
    assert not one.is_worse
    assert known(one).why_forgotten == "a.jsonl forgotten"


def test_a_warning_says_which_file_made_which_worse_and_by_how_much() -> None:
    (warning,) = known(losses(), WORSE).warnings
    assert warning == "a.jsonl is worse after b.jsonl: 2.00 -> 2.50 (± 0.042)"


def test_what_was_not_measured_is_not_said_to_be_known() -> None:
    gone = KnownFile(1, "a.jsonl", problem="its rows were not kept: no such file")
    assert known(gone).why_forgotten == "a.jsonl not measured"
    assert known(gone, gone).why_forgotten == "a.jsonl and 1 other not measured"


@pytest.mark.parametrize("num", [1, 2, MOST_FILES, MOST_FILES + 1, 250, 1000])
def test_so_many_files_are_measured_and_the_same_ones_again(num: int) -> None:
    files = [LearnedFile(number, f"{number}", "") for number in range(num)]
    chosen = [one.number for one in files_to_measure(files)]
    assert chosen[-1] == num - 1
    assert len(chosen) <= MOST_FILES
    assert num > MOST_FILES or chosen == list(range(num))
    more = [one.number for one in files_to_measure([*files, LearnedFile(num, "", "")])]
    assert set(more[:-1]) <= {*chosen, num - 1}


@pytest.mark.parametrize(
    ("num", "rows", "most", "expected"),
    [
        (4, 8, 0.0, [0, 1, 2, 3]),  # so few are always measured
        (6, 8, 40.0, [0, 1, 2, 3, 4, 5]),  # the newest counts for nothing
        (6, 8, 39.9, [0, 2, 4, 5]),
        (6, 8, 0.0, [0, 2, 4, 5]),
        (33, 1, 8.0, [0, 4, 8, 12, 16, 20, 24, 28, 32]),
        (33, 1, 7.0, [0, 8, 16, 24, 32]),
        (150, 1, 1000.0, [*range(0, 149, 2), 149]),
        (150, None, 160.0, [*range(0, 149, 8), 149]),  # one that nobody has measured counts as 8
    ],
)
def test_no_more_rows_than_a_file_allows_are_measured_but_for_a_few_files(
    tmp_path: Path, num: int, rows: int | None, most: float, expected: list[int]
) -> None:
    files = [LearnedFile(number, "", str(tmp_path / f"{number}")) for number in range(num)]
    for one in files[:-1] if rows else ():
        loss = Measured(1.0, 0.1, rows or 0)
        save(Path(one.run), KnownFile(one.number, "", now=loss))
    assert [one.number for one in files_to_measure(files, most)] == expected
    fewer = [one.number for one in files_to_measure(files, most / 2)]
    assert set(fewer) <= set(expected)  # so that losses can be compared from file to file


def save(run: Path, *files: KnownFile) -> StillKnown:
    run.mkdir()
    result = StillKnown(SCHEMA, "checkpoint-2", files)
    (run / FILE).write_bytes(msgspec.json.encode(result))
    return result


def test_a_file_is_compared_with_its_own_time_and_with_the_last(tmp_path: Path) -> None:
    one = LearnedFile(1, "a.jsonl", str(tmp_path / "0001-a"))
    save(Path(one.run), KnownFile(1, "a.jsonl", True, measured(1), None, measured(1)))
    parent = save(tmp_path / "0002-b", losses(learned=1, before=1, now=3))
    found = known_before(one, parent)
    assert (found.learned, found.before, found.now) == (measured(1), measured(3), None)


def test_a_file_that_was_not_measured_when_it_was_learned_counts_from_the_first_time(
    tmp_path: Path,
) -> None:
    one = LearnedFile(1, "a.jsonl", str(tmp_path / "0001-a"))
    parent = save(tmp_path / "0003-c", losses(learned=2, before=3, now=4))
    found = known_before(one, parent)
    assert (found.learned, found.before) == (measured(2), measured(4))
    assert known_before(one, None) == KnownFile(1, "a.jsonl")


def test_what_cannot_be_read_was_not_measured(tmp_path: Path) -> None:
    assert load_still_known(tmp_path) is None
    (tmp_path / FILE).write_text("{")
    assert load_still_known(tmp_path) is None
