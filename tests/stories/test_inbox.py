"""The inbox, as it is typed: files dropped into a folder, each learned exactly once."""

import json
import signal
import time
from pathlib import Path
from typing import Any

from .conftest import Headway, running, until

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


def test_killed_in_the_middle_of_a_file_and_started_again(headway: Headway) -> None:
    settings = "batch_size: 2\nsave_steps: 5\nthreads: 1\nbf16: false\n"
    headway.write("inbox/headway.yaml", settings)
    headway.write("twin/headway.yaml", settings)
    for folder in ("inbox", "twin"):
        headway.write(f"{folder}/a.jsonl", chats(4, "a"))
        headway.write(f"{folder}/b.jsonl", chats(200, "b"))
    assert headway("inbox", "start", "twin", "--once", *TINY).code == 0

    process = headway.start("inbox", "start", "inbox", *TINY)
    run = headway.here / "inbox/.headway/runs/0002-b"
    until(lambda: list(run.glob("checkpoint-*")))
    second = headway("inbox", "start", "inbox")
    assert second.code == 75
    assert f"process {process.pid} on " in second.err
    status = headway("inbox", "status", "inbox", "--json").json
    assert (status["state"], status["training"]) == ("training", "b.jsonl")
    process.send_signal(signal.SIGKILL)
    process.wait()
    owner = json.loads((run / "run.lock").read_text() or '{"pid": 0}')["pid"]
    until(lambda: not owner or not running(owner))  # the training process ends with it

    again = headway("inbox", "start", "inbox", "--once")
    assert again.code == 0, again.err
    receipt = beside(headway, "done/b.jsonl")
    assert receipt["attempts"] == 2
    assert (receipt["rows"]["applications"], receipt["rows"]["held_out"]) == (199, 1)
    weights = [
        json.loads((headway.here / folder / "current_model/manifest.json").read_text())["files"]
        for folder in ("inbox", "twin")
    ]
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert weights[0][name] == weights[1][name]
    assert sorted(p.name for p in (headway.here / "inbox").iterdir()) == [
        ".headway", "current_model", "done", "failed", "headway.yaml", "processing"
    ]  # fmt: skip


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


def test_f46_a_file_is_taken_when_its_writer_is_done(headway: Headway) -> None:
    process = headway.start("inbox", "start", "inbox", *TINY)
    inbox = headway.here / "inbox"
    until((inbox / ".headway/daemon.json").exists)
    with (inbox / "slow.jsonl").open("w") as writer:
        for number in range(6):
            writer.write(chats(1, str(number)))
            writer.flush()
            time.sleep(0.5)
            assert (inbox / "slow.jsonl").exists()
    until((inbox / "done/slow.jsonl").exists)
    assert beside(headway, "done/slow.jsonl")["rows"]["trained"] == 6
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
