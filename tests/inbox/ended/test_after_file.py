"""The command after a file: what it gets, and that its failure is only said."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.inbox.jobs.test_inbox_job import JOB
from tests.ui.fixtures import receipt

from headway.inbox.ended import after_file
from headway.inbox.ended.after_file import AfterFile
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs.inbox_job import JobState, learned_from
from headway.inbox.notices import InboxNotice

DONE = replace(
    JOB, name="a b.jsonl", state=JobState.DONE, place="done/a b.jsonl",
    learned=learned_from(receipt()),
)  # fmt: skip


@pytest.fixture
def inbox(tmp_path: Path) -> InboxFolder:
    folder = InboxFolder(tmp_path / "inbox")
    folder.make()
    return folder


def ran(after: AfterFile) -> None:
    while not after.is_idle:
        after.look()
        time.sleep(0.01)


def test_it_gets_the_file_and_what_became_of_it(inbox: InboxFolder) -> None:
    said: list[InboxNotice] = []
    line = 'echo "$HEADWAY_STATE|$HEADWAY_FILE|$HEADWAY_GLOBAL_STEP|$HEADWAY_MODEL" >> told'
    after = AfterFile(line, inbox, said.append)
    after.add(DONE)
    after.add(replace(DONE, state=JobState.FAILED, place="failed/x", learned=None))
    ran(after)
    assert (inbox.path / "told").read_text().splitlines() == [
        f"done|{inbox.path}/done/a b.jsonl|4976|{inbox.path}/current_model",
        f"failed|{inbox.path}/failed/x||{inbox.path}/current_model",
    ]
    assert said == []


def test_a_failure_is_said_with_its_last_line(inbox: InboxFolder) -> None:
    said: list[InboxNotice] = []
    after = AfterFile("echo first; echo 'no \x1b[2J route' >&2; exit 7", inbox, said.append)
    after.add(DONE)
    ran(after)
    (notice,) = said
    assert notice.text.startswith("after_file exited with code 7: no ")
    assert "\x1b" not in notice.text


def test_one_that_hangs_is_killed_with_all_it_started(
    inbox: InboxFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"s": 0.0}
    said: list[InboxNotice] = []
    after = AfterFile("sleep 1000 & sleep 1000", inbox, said.append, lambda: now["s"])
    after.add(DONE)
    after.look()
    assert said == []
    now["s"] = after_file.LIMIT_S + 1
    after.look()
    assert after.is_idle
    assert "was killed" in said[0].text
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError(7)))
    after.add(DONE)
    assert after.is_idle
    assert "could not be started" in said[1].text


def test_without_a_command_nothing_runs(inbox: InboxFolder) -> None:
    after = AfterFile("", inbox, lambda _: None)
    after.add(DONE)
    assert after.is_idle
