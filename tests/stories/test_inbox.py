"""The inbox, as it is typed: files dropped into a folder, each learned exactly once."""

import json
import time
from pathlib import Path
from typing import Any

from .conftest import Headway, until

TINY = ("--preset", "tiny")


def chats(num: int, salt: str) -> str:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{salt} question {i}"},
                {"role": "assistant", "content": f"{salt} answer {i}"},
            ]
        }
        for i in range(num)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def global_step(headway: Headway) -> int:
    """`cat inbox/current_model/trainer_state.json | jq .global_step`."""
    state = json.loads((headway.here / "inbox/current_model/trainer_state.json").read_text())
    return int(state["global_step"])


def beside(headway: Headway, place: str) -> dict[str, Any]:
    return json.loads((headway.here / "inbox" / f"{place}.receipt.json").read_text())


def test_two_files_of_one_row_go_from_0_to_1_to_2(headway: Headway) -> None:
    headway.write("inbox/first.jsonl", chats(1, "first"))
    told = headway("inbox", "start", "inbox", "--once", *TINY)
    assert told.code == 0, told.err
    assert "first.jsonl trains 1 step, reaching global step 1" in told.out
    assert global_step(headway) == 1
    headway.write("inbox/second.jsonl", chats(1, "second, which is longer than the first,"))
    headway.write("inbox/blank.jsonl", "\n\n")
    headway.write("inbox/empty.jsonl", "")
    told = headway("inbox", "start", "inbox", "--once")
    assert told.code == 3, told.err  # of the first that failed
    assert global_step(headway) == 2
    for number, name in enumerate(("first", "second")):
        receipt = beside(headway, f"done/{name}.jsonl")
        assert receipt["outcome"] == "finished"
        assert (receipt["steps"]["first"], receipt["steps"]["last"]) == (number, number + 1)
        assert (receipt["rows"]["trained"], receipt["rows"]["repeated"]) == (1, 0)
        run = f"inbox/.headway/runs/{receipt['run']}"
        assert headway("verify", run).code == 0
    for name in ("blank", "empty"):
        error = (headway.here / f"inbox/failed/{name}.jsonl.error.txt").read_text()
        assert "  try   " in error
    assert sorted(p.name for p in (headway.here / "inbox/processing").iterdir()) == []
    known = beside(headway, "done/second.jsonl")["still_known"]["files"]
    assert [(one["name"], one["now"]["rows"], one["are_held_out"]) for one in known] == [
        ("first.jsonl", 1, False), ("second.jsonl", 1, False)
    ]  # fmt: skip
    assert (
        known[0]["before"] == beside(headway, "done/first.jsonl")["still_known"]["files"][0]["now"]
    )
    status = headway("inbox", "status", "inbox", "--json").json
    assert status["still_known"]["files"] == known
    assert "learned from" in headway("inbox", "status", "inbox").out
    assert (status["state"], status["global_step"]) == ("stopped", 2)
    assert status["counts"] == {"done": 2, "failed": 2}


def test_rows_of_earlier_files_are_replayed_and_counted_apart(headway: Headway) -> None:
    settings = "batch_size: 8\nreplay: 0.25\nthreads: 1\nbf16: false\n"
    headway.write("inbox/headway.yaml", settings)
    for number, name in enumerate("abc"):
        headway.write(f"inbox/{name}.jsonl", chats(64, f"{name} says"))
        assert headway("inbox", "start", "inbox", "--once", *(TINY if not number else ())).code == 0
        (headway.here / f"inbox/done/{name}.jsonl").unlink()  # their rows are kept
    receipts = [beside(headway, f"done/{name}.jsonl") for name in "abc"]
    assert [one["rows"]["replayed"] for one in receipts] == [0, 16, 16]
    for receipt in receipts:
        rows = receipt["rows"]
        assert (rows["trained"] + rows["held_out"], rows["missing"], rows["repeated"]) == (64, 0, 0)
        told = headway("verify", f"inbox/.headway/runs/{receipt['run']}")
        assert told.code == 0, told.out
    plan = json.loads((headway.here / "inbox/.headway/runs/0003-c/plan.json").read_text())
    assert [one["run"] for one in plan["replay"]["sources"]] == ["0001-a", "0002-b"]


def test_f46_f48_a_file_is_taken_when_its_writer_is_done_and_by_one_daemon(
    headway: Headway,
) -> None:
    process = headway.start("inbox", "start", "inbox", *TINY)
    inbox = headway.here / "inbox"
    until((inbox / ".headway/daemon.json").exists)
    second = headway("inbox", "start", "inbox")
    assert second.code == 75
    assert f"process {process.pid} on " in second.err
    with (inbox / "slow.jsonl").open("w") as writer:
        for number in range(6):
            writer.write(chats(1, str(number)))
            writer.flush()
            time.sleep(0.5)
            assert (inbox / "slow.jsonl").exists()
    until((inbox / "done/slow.jsonl").exists)
    assert beside(headway, "done/slow.jsonl")["rows"]["trained"] == 6
    assert headway("inbox", "status", "inbox", "--json").json["state"] == "idle"
    stopped = headway("inbox", "stop", "inbox")
    assert stopped.code == 0, stopped.err
    assert process.wait() == 75


def test_f50_a_file_that_kills_its_process_costs_nothing_else(headway: Headway) -> None:
    headway.write("inbox/1-good.jsonl", chats(3, "good"))
    headway.write("inbox/2-poison.jsonl", chats(3, "poison"))
    headway.write("inbox/3-good.jsonl", chats(3, "more"))
    folder = headway.here / "mutant"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def look(event, arguments):\n"
        "    if event == 'open' and 'poison' in str(arguments[0]):\n"
        "        os.kill(os.getpid(), 11)\n"
        "if 'headway.supervise.planner' in sys.orig_argv:\n"
        "    sys.addaudithook(look)\n"
    )
    told = headway("inbox", "start", "inbox", "--once", *TINY, PYTHONPATH=str(folder))
    assert told.code == 5, told.err
    assert told.out.count("attempt") == 2
    error = Path(headway.here / "inbox/failed/2-poison.jsonl.error.txt").read_text()
    assert "died 3 times" in error
    assert "SIGSEGV" in error
    steps = [beside(headway, f"done/{name}.jsonl")["steps"] for name in ("1-good", "3-good")]
    assert steps[0]["last"] == steps[1]["first"]
