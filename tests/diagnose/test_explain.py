"""The table of causes: its order, and the page that lists it."""

from pathlib import Path

import pytest
from tests.diagnose.built import (
    evidence,
    frame,
    locked,
    process,
    receiver,
    runner,
    sleeper,
    texts,
    thread,
    work,
)
from tests.helpers import docs_script

from headway.diagnose.diagnosis import StallCause
from headway.diagnose.evidence.facts import DiskFacts, Evidence
from headway.diagnose.explain import TABLE, explain

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "stalls.md"


LOOP = "_worker_loop <site>/torch/utils/data/_utils/worker.py:349"
NEXT = thread("_try_get_data <site>/torch/utils/data/dataloader.py:1275", call="poll")
REDUCE = thread("all_reduce <site>/torch/distributed/distributed_c10d.py:2806", call="futex")
FULL = (DiskFacts("/runs", 0, 10**9),)
LOCKED = locked(frame("step train.py:20", "lock.acquire()"))
STREAM = receiver("begin <std>/http/client.py:325", "open_stream a.py:1")


def test_the_table_has_a_row_for_each_cause() -> None:
    assert {row.cause for row in TABLE} == set(StallCause)


def test_the_page_lists_each_cause_with_what_shows_it_and_what_to_do() -> None:
    page = PAGE.read_text()
    for row in TABLE:
        assert f"| `{row.cause}` | {row.seen_by} | {row.fix} |" in page, row.cause


def test_a_stale_page_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = docs_script("make_stalls")
    assert made.main(["--check"]) == 0, "run: make docs"
    page = tmp_path / "stalls.md"
    page.write_text("# Before\n<!-- causes -->\nold\n<!-- /causes -->\nafter\n")
    monkeypatch.setattr(made, "PAGE", page)
    assert made.main(["--check"]) == 1
    assert made.main([]) == 0
    assert made.main(["--check"]) == 0
    assert page.read_text().endswith("|\n<!-- /causes -->\nafter\n")


def test_each_row_finds_its_own_cause_and_none_is_found_in_nothing() -> None:
    for row in TABLE[:-1]:
        assert row.find(evidence()) is None, row.cause
    assert explain(evidence()).cause is StallCause.UNKNOWN


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        # What explains other things comes before what it explains.
        (evidence(process(1, REDUCE), process(2, thread(state="T"))), StallCause.STOPPED),
        (evidence(process(1, REDUCE), process(2, LOCKED)), StallCause.DEADLOCK),
        (evidence(process(1, REDUCE), process(2, STREAM)), StallCause.FIRST_BYTES),
        (evidence(process(1, REDUCE), process(2, sleeper())), StallCause.COLLECTIVE),
        (evidence(process(1, REDUCE), missing=(1,)), StallCause.RANK_DEAD),
        (evidence(process(1, sleeper()), disks=FULL), StallCause.DISK_FULL),
        (evidence(process(1, sleeper())), StallCause.SLEEPING),
        # Whoever is waited for is looked at.
        (
            evidence(process(1, NEXT), process(2, thread(LOOP, state="T"), parent=1)),
            StallCause.LOADER_FROZEN,
        ),
        (
            evidence(process(1, NEXT), process(2, sleeper(LOOP), parent=1)),
            StallCause.SLOW_SOURCE,
        ),
        (evidence(process(1, NEXT), process(2, runner(LOOP), parent=1)), StallCause.COMPUTING),
        (evidence(process(1, LOCKED, receiver("get a.py:1"))), StallCause.NETWORK),
        # What is slow because of the machine is not called computing.
        (
            evidence(process(1, runner()), other_work=work(throttled=0.9)),
            StallCause.CPU_QUOTA,
        ),
        (
            evidence(process(1, runner()), other_work=work(other_cores=8.0, busy=1.0)),
            StallCause.BUSY_MACHINE,
        ),
        (evidence(process(1, runner())), StallCause.COMPUTING),
        (evidence(process(1, thread())), StallCause.UNKNOWN),
    ],
)
def test_the_order_of_the_table(seen: Evidence, cause: StallCause) -> None:
    assert explain(seen).cause is cause


def test_every_diagnosis_says_what_have_need_and_what_to_do() -> None:
    for seen in (evidence(process(1, sleeper())), evidence(process(1, thread())), evidence()):
        finding = explain(seen).finding
        assert finding.what
        assert finding.have
        assert finding.need
        assert finding.remedies
        assert "\n" not in finding.what
        assert texts(explain(seen)) == texts(explain(seen))
