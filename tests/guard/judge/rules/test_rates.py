"""Learning rates: zero throughout is refused, warm-up and decay are not."""

from pathlib import Path

import pytest
from tests.guard.judge.left import facts_of

from headway.guard.facts import ProgressRecord
from headway.guard.judge.rules.rates import rates
from headway.guard.judge.traces.case import read_case


@pytest.mark.parametrize(
    ("values", "asked", "kinds"),
    [
        ((0.0, 0.0, 0.0), "", ["refused"]),
        ((0.0, 0.0), "", ["refused"]),
        ((0.0,), "", []),  # a single step of warm-up, or the last of a decay
        ((0.0, 1e-4, 2e-4), "", []),
        ((1e-4, 5e-5, 0.0), "", []),
        ((0.0, 1e-7, 2e-7), "2e-5", ["warning"]),
        ((0.0, 1e-5, 2e-5), "2e-5", []),
        ((2e-7, 1e-7, 0.0), "2e-5", []),  # resumed near the end of its decay
        ((), "", []),
    ],
)
def test_rates(tmp_path: Path, values: tuple[float, ...], asked: str, kinds: list[str]) -> None:
    records = tuple(
        ProgressRecord(float(at), step=at, loss=2.0, learning_rate=rate)
        for at, rate in enumerate(values, start=1)
    )
    command = ("train.py", *(("--learning_rate", asked) if asked else ()))
    case = read_case(facts_of(tmp_path, *command, records=records))
    assert [one.kind for one in rates(case)] == kinds


def test_a_rate_that_was_printed_with_few_digits_is_not_accused(tmp_path: Path) -> None:
    records = tuple(
        ProgressRecord(float(at), step=at, loss=2.0, learning_rate=0.0) for at in range(1, 9)
    )
    facts = facts_of(tmp_path, records=records, tail=("step 8 loss 2.0 lr 0.0000",))
    assert list(rates(read_case(facts))) == []
