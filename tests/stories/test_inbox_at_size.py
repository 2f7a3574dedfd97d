"""Incident B at its size: 19,900 rows twice, the second file in full on top of the first."""

import pytest

from .conftest import Headway
from .test_inbox import TINY, beside, chats, global_step

NUM_ROWS, BATCH = 19_900, 8
STEPS = 2_488  # 19,900 / 8, the last one smaller


@pytest.mark.chaos
@pytest.mark.timeout(3600)
def test_f25_two_files_of_19900_rows_reach_steps_2488_and_4976(headway: Headway) -> None:
    headway.write("inbox/headway.yaml", f"batch_size: {BATCH}\n")
    reached: list[int] = []
    for number, name in enumerate(("lesson1", "lesson2")):
        first, last = number * STEPS, (number + 1) * STEPS
        headway.write(f"inbox/{name}.jsonl", chats(NUM_ROWS, name))
        told = headway("inbox", "start", "inbox", "--once", *TINY)
        assert told.code == 0, told.err
        assert f"{name}.jsonl trains 2,488 steps, reaching global step {last:,}" in told.out
        receipt = beside(headway, f"done/{name}.jsonl")
        assert (receipt["steps"]["first"], receipt["steps"]["last"]) == (first, last)
        rows = receipt["rows"]
        assert rows["accepted"] == rows["held_out"] + rows["trained"] == NUM_ROWS
        assert rows["held_out"] <= 8
        assert rows["planned"] == rows["trained"] == rows["applications"]
        assert (rows["missing"], rows["repeated"]) == (0, 0)
        run = headway.here / "inbox/.headway/runs" / receipt["run"]
        saved = [int(path.name.split("-")[1]) for path in run.glob("checkpoint-*")]
        assert first < min(saved)
        assert max(saved) == last
        assert headway("verify", str(run)).code == 0
        reached.append(global_step(headway))
        print(name, receipt["steps"], rows, sorted(saved), told.seconds)
    assert reached == [STEPS, 2 * STEPS]
