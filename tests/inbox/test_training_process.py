"""The training process of a file: its request, and what it refuses."""

import os
import subprocess
from pathlib import Path

import msgspec
import psutil

from headway.base.errors import Cause
from headway.base.process import ChildProcess
from headway.inbox.jobs.inbox_job import GivenSetting
from headway.inbox.options import SCHEMA, FirstModel
from headway.inbox.training_process import FileAnswer, FileRequest, Output

REQUEST = FileRequest(
    name="a.jsonl",
    source="/data/inbox/processing/a.jsonl",
    settings=(GivenSetting("batch_size", "none", "headway.yaml:1:1"),),
    run_name="0001-a",
    output_dir="/data/inbox/.headway/runs",
    parent="",
    num_waiting=2,
    first_model=FirstModel(SCHEMA, (GivenSetting("--preset", "tiny", "--preset"),)),
    output=Output(json=True),
)


def test_a_request_is_read_as_it_was_sent() -> None:
    assert msgspec.json.decode(msgspec.json.encode(REQUEST), type=FileRequest) == REQUEST


def test_each_request_has_its_answer(tmp_path: Path) -> None:
    answers, theirs = os.pipe()
    child = ChildProcess(
        "headway.inbox.training_process",
        [str(theirs), "7"],
        log=tmp_path / "err",
        stdin=subprocess.PIPE,
        descriptors=(theirs,),
    )
    os.close(theirs)
    with open(answers, "rb") as lines:  # noqa: PTH123 - a descriptor
        for _ in range(2):
            child.send(REQUEST)
            end = msgspec.json.decode(lines.readline(), type=FileAnswer).end
            assert end is not None
            assert end.code == 2, child.last_words()
            assert end.refused is not None
            assert end.refused.findings[0].cause is Cause.INVALID_VALUE
        assert psutil.Process(child.pid).nice() == os.nice(0) + 7
        child.end()
        assert lines.readline() == b""
