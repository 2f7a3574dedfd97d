"""What the daemon does now, as it is noted and read; what a webhook gets of a file."""

from dataclasses import replace
from pathlib import Path

from tests.ui.fixtures import receipt

from headway.base.errors import Cause, Finding, Remedy
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.inbox_job import SCHEMA, InboxJob, JobState, Learned, learned_from
from headway.inbox.notices import (
    DaemonState,
    FileWebhook,
    InboxNotice,
    NoticeKind,
    read_activity,
    webhook_notice,
    write_activity,
)

INBOX = InboxFolder(Path("/data/inbox"))


def test_what_is_noted_is_read(tmp_path: Path) -> None:
    assert read_activity(tmp_path / "daemon.json") is None
    write_activity(tmp_path / "daemon.json", DaemonState.PAUSED, "why")
    found = read_activity(tmp_path / "daemon.json")
    assert found is not None
    assert (found.state, found.why) == (DaemonState.PAUSED, "why")
    assert found.since.endswith("+00:00")
    (tmp_path / "daemon.json").write_text("{")
    assert read_activity(tmp_path / "daemon.json") is None


JOB = InboxJob(
    SCHEMA, 2, "a\x1b.jsonl", 9, "abc", "", "0002-a", "0001-b", ended_at="now", place="done/a.jsonl"
)
LEARNED = Learned(4, 8, 31, "improved", 3.5, 2.5, "checkpoint-8", 2.0, "learned: 3.5 -> 2.5")
FINDING = Finding("refused", "no", "this", "that", (Remedy("do"),), Cause.DATA_CHANGED)


def test_a_webhook_gets_what_was_learned() -> None:
    job = replace(JOB, state=JobState.DONE, learned=LEARNED)
    found = webhook_notice(InboxNotice(NoticeKind.DONE, "a done", job), job, INBOX)
    assert (found.event, found.run, found.title) == ("file", "0002-a", "a done")
    assert found.text == "learned: 3.5 -> 2.5"
    assert not found.is_problem
    assert found.facts["state"] == "done"
    assert found.facts["global_step"] == 8
    assert found.facts["receipt"] == "/data/inbox/done/a.jsonl.receipt.json"
    assert "\x1b" not in str(found.facts["file"])


def test_a_webhook_gets_why_a_file_failed() -> None:
    job = replace(JOB, state=JobState.FAILED, finding=FINDING, place="failed/a.jsonl")
    notice = InboxNotice(NoticeKind.FAILED, "a failed", job, FINDING)
    found = webhook_notice(notice, job, INBOX)
    assert found.is_problem
    assert [line.split() for line in found.text.splitlines()] == [
        ["no"], ["have", "this"], ["need", "that"], ["try", "do"]
    ]  # fmt: skip
    assert "global_step" not in found.facts


def test_only_files_that_ended_are_posted_and_a_refusal_is_said() -> None:
    said: list[InboxNotice] = []
    webhook = FileWebhook("http://127.0.0.1:9/hook?token=secret", INBOX, said.append)
    webhook.post(InboxNotice(NoticeKind.PAUSED, "paused"))
    webhook.post(InboxNotice(NoticeKind.AGAIN, "again", replace(JOB, ended_at="")))
    webhook.wait(10.0)
    assert said == []
    webhook.post(InboxNotice(NoticeKind.DONE, "done", replace(JOB, learned=LEARNED)))
    webhook.wait(10.0)
    (one,) = said
    assert one.kind is NoticeKind.COMMAND
    assert one.text.startswith("cannot post to 127.0.0.1: ")
    assert "secret" not in one.text


def test_what_is_done_says_how_far_it_led_and_why_the_model_stays() -> None:
    learned = learned_from(receipt())
    done = replace(JOB, name="a.jsonl")
    job = replace(done, held_back="a.jsonl forgotten")
    said = "a.jsonl done · global step 2,488 -> 4,976 · 19,900 rows"
    assert InboxNotice.of_done(done, learned).text == said
    notice = InboxNotice.of_done(job, learned)
    assert notice.text == f"{said} · a.jsonl forgotten: current_model is not updated"
    assert notice.job == job
