"""What is said of files: every remedy that is a command can be typed."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tests.inbox.jobs.test_inbox_job import JOB
from tests.ui.fixtures import receipt

from headway.base.errors import Finding, Remedy
from headway.cli import VERBS
from headway.config.command_line import parse
from headway.config.yaml_file import read_settings
from headway.inbox.folder import InboxFolder
from headway.inbox.jobs import findings
from headway.inbox.jobs.findings import in_one_line
from headway.inbox.jobs.inbox_job import learned_from

INBOX = InboxFolder(Path("/data/in box"))
DONE = replace(JOB, learned=learned_from(receipt()))
LAST = Finding("refused", "it was killed", "SIGKILL", "to be left alone")

FLAGS = {
    "--skip-corrupt": ["skip_corrupt: true"],
    "--no-bf16": ["bf16: false"],
    "--batch-size 4": ["batch_size: 4"],
    "--batch-size 4 --max-length 64": ["batch_size: 4", "max_length: 64"],
    "--learning-rate=1e-4": ["learning_rate: 1e-4"],
    "--max-rejected 0.5": ["max_rejected: 0.5"],
    "headway doctor": ["headway doctor"],
    "fix the file": ["fix the file"],
}
SAID = {
    "already_trained": findings.already_trained(replace(JOB, name="b"), DONE),
    "undone": findings.undone(INBOX, DONE, "failed/a.jsonl"),
    "crashed_often": findings.crashed_often(replace(JOB, crashes=3), LAST),
    "content_changed": findings.content_changed(JOB, "cd"),
    "vanished": findings.vanished(JOB),
    "is_empty": findings.is_empty(JOB),
    "not_a_file": findings.not_a_file("x", "a pipe"),
}
REFUSED = {
    "nothing_to_undo": findings.nothing_to_undo(INBOX),
    "half_trained": findings.half_trained(INBOX, JOB),
    "model_deleted": findings.model_deleted(INBOX, JOB),
}


@pytest.mark.parametrize("name", SAID)
def test_a_finding_has_four_parts_and_a_cause(name: str) -> None:
    found = SAID[name]
    assert found.what
    assert found.have
    assert found.need
    if name != "crashed_often":
        assert found.remedies
        assert found.cause


@pytest.mark.parametrize("name", [*SAID, *REFUSED])
def test_commands_can_be_typed(name: str) -> None:
    remedies = SAID[name].remedies if name in SAID else REFUSED[name].remedies
    for remedy in remedies:
        words = shlex.split(remedy.do)
        if words[0] == "headway":
            verb = VERBS[words[1]]
            parse(words[2:], verb.options, settings=verb.settings)
            assert "in box" in remedy.do
            assert str(INBOX.path) in words


def test_both_hashes_are_named() -> None:
    assert "ab before" in SAID["content_changed"].have
    assert "cd after" in SAID["content_changed"].have


def test_one_line_says_what_there_is_unless_it_is_long() -> None:
    full = Finding("refused", "the disk is full", "2 MB free\n6 MB needed")
    assert in_one_line(full) == "the disk is full (2 MB free, 6 MB needed)"
    assert in_one_line(replace(full, have="x" * 81)) == in_one_line(replace(full, have=""))
    assert in_one_line(replace(full, have="")) == "the disk is full"


@pytest.mark.parametrize(("do", "lines"), FLAGS.items())
def test_flags_of_a_command_become_lines_of_the_settings(
    tmp_path: Path, do: str, lines: list[str]
) -> None:
    failed = replace(LAST, remedies=(Remedy(do, "trains what can be read"),))
    found = findings.with_retry(failed, INBOX, replace(JOB, place="failed/a.jsonl"))
    *first, retry = found.remedies
    assert [one.do for one in first] == lines
    assert first[0].gives.endswith("trains what can be read")
    assert retry.do == "headway inbox retry failed/a.jsonl '/data/in box'"
    if lines != [do]:
        assert first[0].gives.startswith("in headway.yaml, read at the next start: ")
        (tmp_path / "headway.yaml").write_text("\n".join(lines))
        read = read_settings(tmp_path / "headway.yaml")
        assert len(read.given) == len(lines)  # each is a setting that the file may have
