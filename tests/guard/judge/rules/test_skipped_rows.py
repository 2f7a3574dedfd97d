"""A resumed Trainer that skips the beginning of new data is told; a resumed run is not."""

from pathlib import Path
from typing import Any

import pytest
from tests.guard.judge.left import age, facts_of, history, state

from headway.guard.judge.rules.skipped_rows import skipped_rows
from headway.guard.judge.traces.case import read_case

NAME = "trainer_state.json"


@pytest.mark.parametrize(
    ("steps", "epochs", "fields", "skipped"),
    [
        (30, 1.0, {}, 20),  # another file of 30 steps: 10 are trained
        (36, 2.0, {}, 2),  # another file of 18 steps, twice
        (40, 2.0, {}, 0),  # the same file once more
        (40, 1.0, {"train_batch_size": 4}, 0),  # the same file in smaller batches
        (20, 1.0, {}, 0),  # nothing was trained at all
    ],
)
def test_what_was_skipped(
    tmp_path: Path, steps: int, epochs: float, fields: dict[str, Any], skipped: int
) -> None:
    log = history(20, 20)
    state(tmp_path / "checkpoint-20" / NAME, 20, 20, log_history=log, train_batch_size=8)
    started = age(tmp_path)
    more = [{"step": 20 + at, "loss": 1.0} for at in range(1, steps - 19)]
    state(
        tmp_path / f"checkpoint-{steps}.new" / NAME,
        steps,
        steps,
        **({"epoch": epochs, "log_history": log + more, "train_batch_size": 8} | fields),
    )
    found = list(skipped_rows(read_case(facts_of(tmp_path, started_s=started))))
    assert [f"first {skipped} steps" in one.what for one in found] == [True] * bool(skipped)
