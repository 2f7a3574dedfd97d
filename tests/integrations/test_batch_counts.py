"""Batch counts: tokens, padding, trained tokens and contents of micro-batches."""

from typing import Any

import pytest
import torch
from tests.integrations.trainers import collate, rows

from headway.integrations.batch_counts import StepCounts, add_up, count_batch

IDS = [[5, 6, 7, 0], [8, 9, 0, 0]]
MASK = [[1, 1, 1, 0], [1, 1, 0, 0]]
LABELS = [[5, 6, 7, -100], [-100, 9, -100, -100]]


def batch(**given: Any) -> dict[str, torch.Tensor]:
    named = {"input_ids": IDS, "attention_mask": MASK, "labels": LABELS} | given
    return {name: torch.tensor(value) for name, value in named.items() if value is not None}


@pytest.mark.parametrize(
    ("given", "shifted", "expected"),
    [
        ({}, True, (2, 5, 3, 3)),  # the first label of a row is never used
        ({}, False, (2, 5, 4, 3)),
        ({"attention_mask": None}, True, (2, None, 3, None)),
        ({"labels": None}, True, (2, 5, None, 3)),
        ({"labels": [1, 0]}, False, (2, 5, 2, 3)),  # one label for each row
        ({"labels": [[-100] * 4] * 2}, True, (2, 5, 0, 3)),
        # rows joined into one, without a mask: no padding, and their number is not known
        (
            {
                "input_ids": [[5, 6, 7, 8]],
                "labels": [[5, 6, -100, 8]],
                "attention_mask": None,
                "position_ids": [[0, 1, 0, 1]],
            },
            True,
            (None, 4, 2, 0),
        ),
        ({"attention_mask": [[[[1]]]]}, True, (2, None, 3, None)),  # a mask of another shape
    ],
)
def test_a_batch_is_counted(given: Any, shifted: bool, expected: tuple[int | None, ...]) -> None:
    found = add_up([count_batch(batch(**given), shifted=shifted)])
    assert (found.rows, found.input, found.trained, found.padding) == expected


@pytest.mark.parametrize("inputs", [[{"prompt": "a"}], None, {"text": ["a"]}, {}])
def test_what_is_no_batch_of_tensors_is_not_counted(inputs: Any) -> None:
    assert count_batch(inputs, shifted=True) is None
    counted = count_batch(batch(), shifted=True)
    assert add_up([counted, None]) == StepCounts()
    assert add_up([]) == StepCounts()


def test_pictures_have_rows_and_no_tokens() -> None:
    found = add_up([count_batch({"pixel_values": torch.zeros(3, 2, 2)}, shifted=False)])
    assert found == StepCounts(3, None, None, None, None)


def test_rows_are_the_same_however_they_are_padded() -> None:
    right = batch()
    left = batch(input_ids=[[0, 0, 5, 6, 7]], attention_mask=[[0, 0, 1, 1, 1]], labels=None)
    alone = batch(input_ids=[[8, 9]], attention_mask=None, labels=None)
    contents = [add_up([count_batch(one, shifted=True)]).contents for one in (right, left, alone)]
    assert contents == [contents[0], contents[0][:1], contents[0][1:]]  # type: ignore[index]


def test_rows_that_differ_in_one_place_or_in_their_order_differ() -> None:
    made = [[5, 6, 7], [5, 7, 6], [6, 5, 7], [5, 6, 8], [5, 6], [0, 5, 6], [5, 6, 0]]
    found = {
        add_up([count_batch({"input_ids": torch.tensor([row])}, shifted=True)]).contents
        for row in made
    }
    assert len(found) == len(made)


def test_many_rows_have_many_contents() -> None:
    data = rows(500)
    found = [
        number
        for begin in range(0, 500, 50)
        for number in add_up(
            [count_batch(collate(data[begin : begin + 50]), shifted=True)]
        ).contents
        or ()
    ]
    assert len(set(found)) == 500
