"""The training process of a file: its request, and what it refuses."""

import subprocess
import time
from pathlib import Path

import msgspec

from headway.base.errors import Cause
from headway.base.process import ChildProcess
from headway.inbox.jobs.inbox_job import GivenSetting
from headway.inbox.options import SCHEMA, FirstModel
from headway.inbox.training_process import FileRequest, Output

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


def test_a_refusal_reaches_the_daemon(tmp_path: Path) -> None:
    child = ChildProcess(
        "headway.inbox.training_process", log=tmp_path / "err", stdin=subprocess.PIPE
    )
    child.send(REQUEST)
    while child.is_running:
        time.sleep(0.02)
    assert child.exit_code == 2, child.last_words()
    refusal = child.last_refusal()
    child.end()
    assert refusal is not None
    assert refusal.findings[0].cause is Cause.INVALID_VALUE
