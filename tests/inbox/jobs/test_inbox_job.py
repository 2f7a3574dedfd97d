"""Records of jobs: written, read, and what stands beside a file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.ui.fixtures import receipt

from headway.base.errors import Cause, UsageError
from headway.inbox.jobs.inbox_job import (
    SCHEMA,
    GivenSetting,
    InboxJob,
    JobState,
    file_receipt,
    learned_from,
    load_jobs,
    newest_done,
    open_job,
    run_name,
    stands_on_first_model,
)

JOB = InboxJob(SCHEMA, 1, "a.jsonl", 9, "ab", "2026-01-01T00:00:00+00:00", "0001-a", "")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    setting = GivenSetting("sample_prompts", ["a", "b"], "headway.yaml:1:1")
    job = replace(JOB, settings=(setting,), learned=learned_from(receipt()))
    job.file(tmp_path).write_bytes(job.to_json())
    assert load_jobs(tmp_path) == [job]
    assert setting.given().value == ["a", "b"]


def test_records_come_by_number(tmp_path: Path) -> None:
    for number in (10_000, 2, 9999):
        job = replace(JOB, number=number)
        job.file(tmp_path).write_bytes(job.to_json())
    (tmp_path / ".0003.json.1-1.tmp").write_text("{")
    assert [job.number for job in load_jobs(tmp_path)] == [2, 9999, 10_000]
    assert load_jobs(tmp_path / "none") == []


def test_a_newer_record_is_refused(tmp_path: Path) -> None:
    JOB.file(tmp_path).write_text(json.dumps({"schema": "headway.inbox_job/9"}))
    with pytest.raises(UsageError) as refusal:
        load_jobs(tmp_path)
    assert refusal.value.cause is Cause.NEWER_VERSION


def test_the_model_stands_after_the_newest_that_is_done() -> None:
    states = [JobState.DONE, JobState.DONE, JobState.UNDONE, JobState.FAILED, JobState.CLAIMED]
    jobs = [replace(JOB, number=n, state=state) for n, state in enumerate(states)]
    done, claimed = newest_done(jobs), open_job(jobs)
    assert (done.number if done else None) == 1
    assert (claimed.number if claimed else None) == 4
    assert newest_done(jobs[2:]) is None
    assert open_job(jobs[:4]) is None


def test_the_first_model_may_change_until_something_stands_on_it(tmp_path: Path) -> None:
    (tmp_path / JOB.run).mkdir()
    assert not stands_on_first_model(tmp_path, [])
    assert not stands_on_first_model(tmp_path, [replace(JOB, attempts=3)])
    (tmp_path / JOB.run / "plan.json").write_text("{}")
    assert stands_on_first_model(tmp_path, [JOB])
    assert not stands_on_first_model(tmp_path, [replace(JOB, state=JobState.FAILED)])
    assert stands_on_first_model(tmp_path, [replace(JOB, state=JobState.DONE)])
    assert not stands_on_first_model(tmp_path, [replace(JOB, state=JobState.UNDONE)])


@pytest.mark.parametrize(
    ("name", "run"),
    [("a.jsonl", "0007-a"), ("../x", "0007-x"), ("ä b.txt", "0007-ä-b"), ("-.-", "0007-run")],
)
def test_a_run_is_named_by_number_and_stem(name: str, run: str) -> None:
    assert run_name(7, name) == run


def test_what_stands_beside_a_file_says_what_became_of_it() -> None:
    done = json.loads(file_receipt(replace(JOB, state=JobState.DONE), receipt()))
    assert done["outcome"] == "finished"
    assert done["steps"]["applied"] == 2488
    assert done["file"]["sha256"] == "ab"
    # A run may have finished while its file changed: the file decides.
    failed = json.loads(file_receipt(replace(JOB, state=JobState.FAILED), receipt()))
    assert failed["outcome"] == "failed"
    bare = json.loads(file_receipt(replace(JOB, state=JobState.FAILED), None))
    assert set(bare) == {"schema", "outcome", "file"}
