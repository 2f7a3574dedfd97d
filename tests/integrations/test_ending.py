"""Ending of a watched run: the outcome and exit code of each way to end, and the receipt."""

import pytest
import torch
from tests.integrations.facts import facts

from headway.base.errors import BrokenContract, Cause, Exit
from headway.integrations.ending import Seen, WatchEnding, ending_of, make_receipt
from headway.integrations.seen_totals import SeenTotals
from headway.runs.watched.watched_receipt import SeenTensors, SeenTime

BATCH = {"input_ids": torch.tensor([[1, 70]])}
TIME = SeenTime(9.0, 1.0, 0.5, 0.2, 0.1, 8.0)
OURS = BrokenContract("w", cause=Cause.NOT_FINITE, have="h", need="n")


@pytest.mark.parametrize(
    ("error", "outcome", "code", "cause"),
    [
        (OURS, "failed", Exit.BROKEN, Cause.NOT_FINITE),
        (KeyboardInterrupt(), "interrupted", Exit.INTERRUPTED, Cause.STOPPED),
        (SystemExit(3), "interrupted", Exit.INTERRUPTED, Cause.STOPPED),
        (IndexError("index out of range"), "failed", Exit.DATA, Cause.TOKEN_OUTSIDE_EMBEDDING),
    ],
)
def test_an_exception_decides_the_ending(
    error: BaseException, outcome: str, code: Exit, cause: Cause
) -> None:
    ending = ending_of(error, BATCH, 64)
    assert (ending.outcome, ending.exit_code(is_sound=True)) == (outcome, code)
    assert ending.finding is not None
    assert ending.finding.cause is cause


@pytest.mark.parametrize("batch", [None, {"input_ids": torch.tensor([[1, 2]])}, {"x": 1}, [1]])
def test_another_exception_is_given_as_it_is(batch: object) -> None:
    ending = ending_of(RuntimeError("first line\nsecond"), batch, 64)
    assert (ending.why, ending.exit_code(is_sound=False)) == ("RuntimeError: first line", Exit.BUG)


def test_an_exception_without_a_text_has_its_name() -> None:
    assert ending_of(ValueError(), None, None).why == "ValueError"


@pytest.mark.parametrize(
    ("ending", "is_sound", "code"),
    [
        (WatchEnding("finished"), True, Exit.KEPT),
        (WatchEnding("finished"), False, Exit.BROKEN),
        (WatchEnding("interrupted", "stopped early"), True, Exit.KEPT),
        (WatchEnding("failed", "x"), False, Exit.BUG),
    ],
)
def test_exit_codes(ending: WatchEnding, is_sound: bool, code: Exit) -> None:
    assert ending.exit_code(is_sound=is_sound) == code


def test_rows_of_one_process_of_several_are_not_compared_with_the_data() -> None:
    seen = Seen(SeenTotals(), SeenTensors(1, 1, 1), None, TIME, 16)
    for processes, in_data in ((1, 32), (2, None)):
        receipt = make_receipt("r", facts(processes=processes), seen, WatchEnding("finished"), ())
        assert (receipt.rows.in_data, receipt.rows.processes) == (in_data, processes)
        assert receipt.contract.reasons == ("no update was applied",)
