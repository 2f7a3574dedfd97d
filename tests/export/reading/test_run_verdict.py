"""A run that did not end well is exported with a word about it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.ui.fixtures import receipt

from headway.base.errors import Cause
from headway.export.reading.run_verdict import run_findings
from headway.runs.receipt import Judgment

BROKEN = Judgment("broken", ("2 rows are missing",))
NOT_LEARNED = Judgment("not", ("the loss rose",))


def causes(run: Path | None) -> list[Cause | None]:
    return [finding.cause for finding in run_findings(run)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"learning": Judgment("unclear", ("under 10 steps",))}, []),
        ({"contract": BROKEN}, [Cause.CONTRACT_BROKEN]),
        ({"learning": NOT_LEARNED}, [Cause.NOT_LEARNED]),
        ({"outcome": "interrupted"}, [Cause.NO_RECEIPT]),
        ({"outcome": "failed", "contract": BROKEN}, [Cause.NO_RECEIPT]),
    ],
)
def test_what_the_receipt_says_against_it_is_told(
    tmp_path: Path, changes: dict[str, Any], expected: list[Cause]
) -> None:
    replace(receipt(), **changes).save(tmp_path)
    assert causes(tmp_path) == expected


def test_a_model_of_another_trainer_has_no_receipt_and_a_run_has_one(tmp_path: Path) -> None:
    assert causes(None) == []
    assert causes(tmp_path) == [Cause.NO_RECEIPT]
    (tmp_path / "receipt.json").write_bytes(b"{")
    assert causes(tmp_path) == [Cause.NO_RECEIPT]
