"""Lines of status, list and notices, at any width."""

import json
from dataclasses import replace

import pytest
from tests.inbox.jobs.test_inbox_job import JOB
from tests.inbox.recall.test_still_known import WORSE, known, losses
from tests.ui.fixtures import WIDTHS, receipt, status

from headway.base.errors import Finding, Remedy
from headway.inbox.inbox_status import SCHEMA, InboxStatus, WaitingFile
from headway.inbox.jobs.inbox_job import JobState, learned_from
from headway.inbox.notices import InboxNotice, NoticeKind
from headway.inbox.recall.still_known import KnownFile
from headway.inbox.show_inbox import (
    inbox_lines,
    jobs_table,
    known_lines,
    notice_json,
    notice_lines,
)
from headway.ui.text_layout import cells

DONE = replace(
    JOB, state=JobState.DONE, place="done/a.jsonl", learned=learned_from(receipt()), attempts=1
)
WAITING = tuple(WaitingFile(f"{n}.jsonl", 1000 * n, "") for n in range(1, 14))
STATUS = InboxStatus(
    SCHEMA, "/data/inbox", "training", 75.0, "", 4242, "b.jsonl", status(), WAITING,
    {"done": 1, "failed": 2}, DONE, 4976, "/data/inbox/.headway/runs/0001-a/checkpoint-4976", 60.0,
)  # fmt: skip
FINDING = Finding("refused", "a.jsonl is empty", "0 B", "a record", (Remedy("more data"),))


@pytest.mark.parametrize("width", WIDTHS)
def test_status_fits(width: int) -> None:
    lines = inbox_lines(STATUS, width)
    assert max(map(cells, lines[:-1])) <= width
    text = "\n".join(lines)
    assert "now: b.jsonl" in text
    assert "13 files waiting:" in text
    assert "and 3 more" in text
    assert "global step 4,976" in text


def test_status_says_why_nothing_is_done() -> None:
    idle = replace(STATUS, state="idle", why="the inbox is empty", training="", run=None)
    text = "\n".join(inbox_lines(replace(idle, waiting=(), last=None), 80))
    assert text == (
        "/data/inbox · idle · for 1 min 15 s · process 4242\nthe inbox is empty\n\n"
        "no files waiting\n\nmodel: global step 4,976 · 1 done, 2 failed\n"
        "/data/inbox/.headway/runs/0001-a/checkpoint-4976"
    )


def test_a_long_name_leaves_room_for_what_is_known() -> None:
    lines = known_lines(known(replace(WORSE, name="x" * 200)), 60)
    assert max(map(cells, lines)) <= 60
    assert "2.50 forgotten" in lines[2]


def test_of_a_folder_that_is_no_inbox_yet_nothing_else_is_said() -> None:
    new = replace(STATUS, state="not started", since_s=None, pid=0, why="start it", training="")
    new = replace(new, run=None, waiting=(), counts={}, last=None, global_step=0, checkpoint="")
    assert inbox_lines(new, 80) == ["/data/inbox · not started", "start it"]
    assert "13 files waiting:" in inbox_lines(replace(new, waiting=WAITING), 80)


@pytest.mark.parametrize("width", WIDTHS)
def test_what_is_still_known_is_a_table(width: int) -> None:
    status = replace(STATUS, still_known=known(WORSE), held_back="a.jsonl forgotten")
    lines = inbox_lines(status, width)
    assert max(map(cells, lines[:-1])) <= width
    text = " ".join(" ".join(lines).split())
    assert "a.jsonl is worse after b.jsonl: 2.00 -> 2.50 (± 0.042)" in text
    assert "current_model is older than the newest model: a.jsonl forgotten" in text
    wide = known_lines(known(WORSE), 100)
    assert wide[1:4] == [
        "learned from        rows  learned  still known",
        "a.jsonl       8 held out  2.00     2.50 forgotten (± 0.042)",
        "b.jsonl       8 held out  1.00     1.00",
    ]


def test_of_many_files_the_forgotten_ones_are_shown_and_the_others_counted() -> None:
    many = [replace(losses(), number=n, name=f"{n}.jsonl") for n in range(60)]
    many[3] = replace(WORSE, number=3, name="3.jsonl")
    lines = known_lines(replace(known(*many), num_not_looked_at=40), 100)
    assert len([line for line in lines if ".jsonl  " in line]) == 20
    assert any(line.startswith("3.jsonl") and "forgotten" in line for line in lines)
    assert lines[-3:-1] == ["and 41 more", "40 other files not measured this time"]


def test_what_could_not_be_measured_says_why() -> None:
    gone = KnownFile(1, "a.jsonl", problem="its rows were not kept: no such file")
    assert known_lines(known(gone), 100)[2].endswith("its rows were not kept: no such file")


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_has_a_line_per_file(width: int) -> None:
    failed = replace(JOB, number=2, name="b" * 60, state=JobState.FAILED, place="failed/b")
    lines = jobs_table([DONE, failed], width)
    assert len(lines) == 3
    assert max(map(cells, lines)) <= width
    assert "failed" in lines[2]  # a long name leaves room for its state
    wide = jobs_table([DONE], 120)[1].split()
    assert wide == ["1", "a.jsonl", "done", "2,488", "->", "4,976", "2.41", "->", "1.37",
                    "done/a.jsonl"]  # fmt: skip


def test_a_failure_comes_with_its_four_parts() -> None:
    notice = InboxNotice(NoticeKind.FAILED, "a.jsonl failed", JOB, FINDING)
    assert notice_lines(notice) == [
        "a.jsonl failed",
        "  a.jsonl is empty",
        "    have  0 B",
        "    need  a record",
        "    try   more data",
    ]
    plain = json.loads(notice_json(notice))
    assert (plain["event"], plain["kind"], plain["job"]["name"]) == ("inbox", "failed", "a.jsonl")


def test_a_name_cannot_move_the_cursor() -> None:
    assert "\x1b" not in notice_lines(InboxNotice(NoticeKind.DONE, "a\x1b[2J done"))[0]
    assert "\x1b" not in "\n".join(jobs_table([replace(JOB, name="\x1b[2J")], 80))
