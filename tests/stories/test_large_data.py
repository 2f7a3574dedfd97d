"""Data too large to read first: a sample, then rows while it trains, from anywhere on."""

import bz2
import gzip
import json
import signal
from pathlib import Path

import pytest
import zstandard

from .conftest import Headway, until

SMALL = ("--preset", "tiny", "--max-length", "32", "--batch-size", "4", "--threads", "1")
LARGE = ("--survey-exact", "1000")  # so that small files are large ones


def document(number: int) -> str:
    return json.dumps({"text": f"Document {number} tells of {number * 7 % 31}. " * 6, "meta": {}})


def shards(headway: Headway, num: int = 3) -> None:
    """SlimPajama's layout: *.jsonl.zst with `text` and `meta`; one bad row in each."""
    for shard in range(num):
        rows = [document(shard * 200 + row) for row in range(200)]
        rows[17] = '{"text": "cut in hal'
        data = zstandard.compress("".join(row + "\n" for row in rows).encode())
        headway.write(f"shards/chunk_{shard}.jsonl.zst", data)


def weights(headway: Headway, run: str) -> bytes:
    return (headway.here / "runs" / run / "model" / "model.safetensors").read_bytes()


def test_incident_e_shards_train_with_its_own_flags_and_count_what_is_skipped(
    headway: Headway,
) -> None:
    shards(headway)
    words = ["train", "shards/*.jsonl.zst", "--tokens-per-chunk", "256", "--max-chunks", "30"]
    words += ["--max-seq-length", "64", "--preset", "tiny", *LARGE]
    told = headway(*words)
    assert told.code == 0, told.err
    (run,) = (p.name for p in (headway.here / "runs").iterdir() if p.is_dir())
    plan, receipt = headway.plan(run), headway.receipt(run)
    assert plan["data"]["stream"]["sampled"]["parts"] == 3
    assert (plan["data"]["max_length"], plan["steps"]["num"]) == (64, 30)
    assert receipt["contract"]["verdict"] == "kept"
    rows = receipt["rows"]
    assert rows["applications"] == rows["applications_planned"] == 30 * plan["steps"]["batch_size"]
    assert rows["row_sum"] == rows["row_sum_planned"]
    assert rows["rejected"]["not JSON"] >= 1
    rejected = (headway.here / "runs" / run / "rejected.jsonl").read_text().splitlines()
    assert len(rejected) == sum(rows["rejected"].values())
    assert all(json.loads(line)["line"] == 18 for line in rejected)
    assert "skipped" in told.out


@pytest.mark.parametrize("layout", ["lines", "shards"])
def test_a_flow_that_is_stopped_killed_and_robbed_of_its_cache_ends_with_the_same_bits(
    headway: Headway, layout: str
) -> None:
    if layout == "lines":
        headway.write("data.jsonl", "".join(document(n) + "\n" for n in range(700)))
        words = ["train", "data.jsonl"]
    else:
        shards(headway)
        words = ["train", "shards"]
    words += [*SMALL, *LARGE, "--max-steps", "60", "--save-steps", "7", "--val-size", "6"]
    run = "data" if layout == "lines" else "shards"
    cache = {"XDG_CACHE_HOME": str(headway.here / "cache")}

    process = headway.start(*words, **cache)
    until(lambda: sum(e["event"] == "step_done" for e in headway.events(run)) >= 9)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    process = headway.start(*words, **cache)
    until(
        lambda: any(e["event"] == "saved" and e["global_step"] >= 21 for e in headway.events(run))
    )
    process.kill()
    process.communicate()
    for window in (headway.here / "cache").rglob("*.window"):
        window.unlink()
    again = headway(*words, **cache)
    assert again.code == 0, again.err
    twin = headway(*words, "--run-name", "twin")
    assert twin.code == 0, twin.err
    assert weights(headway, run) == weights(headway, "twin")
    ours, theirs = headway.receipt(run), headway.receipt("twin")
    assert ours["rows"] == theirs["rows"]
    assert ours["learning_facts"]["held_out"] == theirs["learning_facts"]["held_out"]
    assert ours["attempts"] == 3
    assert headway("verify", run).code == 0


def test_changed_data_is_refused_for_a_named_run_with_what_changed(headway: Headway) -> None:
    for name in ("a", "b"):
        headway.write(f"data/{name}.jsonl", "".join(document(n) + "\n" for n in range(300)))
    words = ["train", "data", *SMALL, *LARGE, "--max-steps", "40", "--run-name", "mine"]
    process = headway.start(*words)
    until(lambda: any(e["event"] == "step_done" for e in headway.events("mine")))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    path = headway.here / "data/b.jsonl"
    path.write_text(path.read_text().replace("tells", "speaks"))
    told = headway(*words)
    assert told.code == 2
    assert "b.jsonl" in told.err
    assert "a.jsonl" not in told.err


def test_a_folder_of_many_formats_and_compressions_flows(headway: Headway) -> None:
    rows = [document(n) + "\n" for n in range(120)]
    headway.write("mixed/a.jsonl.gz", gzip.compress("".join(rows[:40]).encode()))
    headway.write("mixed/b.jsonl.bz2", bz2.compress("".join(rows[40:80]).encode()))
    headway.write("mixed/c.json", json.dumps([json.loads(row) for row in rows[80:]]))
    headway.write("mixed/d.csv", "text\n" + "".join(f'"row {n}, quoted"\n' for n in range(40)))
    headway.write("mixed/e.txt", "A plain text. " * 200)
    told = headway("train", "mixed", *SMALL, *LARGE, "--max-steps", "8")
    assert told.code == 0, told.err
    assert headway.receipt("mixed")["contract"]["verdict"] == "kept"


def test_d13_one_shard_and_a_reader_that_waits_for_more_give_every_row(headway: Headway) -> None:
    """Steps that outlast two epochs of the one shard: each record is read once per epoch."""
    shards(headway, 1)
    small = ("--preset", "tiny", "--max-length", "32", "--batch-size", "24", "--threads", "1")
    told = headway("train", "shards", *small, *LARGE, "--max-steps", "90", "--save-steps", "50")
    assert told.code == 0, told.err
    receipt = headway.receipt("shards")
    assert receipt["contract"]["verdict"] == "kept"
    rows = receipt["rows"]
    assert rows["read"] == 3 * 200
    assert rows["rejected"]["not JSON"] == 3
    assert rows["applications"] == rows["applications_planned"] > 2 * rows["trained"]


def test_a_small_shard_is_planned_the_same_way_twice(headway: Headway) -> None:
    shards(headway, 2)
    first = headway("plan", "shards", *SMALL, *LARGE, "--json").json
    second = headway("plan", "shards", *SMALL, *LARGE, "--json").json
    assert first["identity"] == second["identity"]
    assert Path(first["data"]["store"]) == Path(second["data"]["store"])
    words = ["plan", "shards", *SMALL, *LARGE, "--drop-duplicates"]
    refused = headway(*words)
    assert refused.code == 2
    assert "--survey-exact" in refused.err
