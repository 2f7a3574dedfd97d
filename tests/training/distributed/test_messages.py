"""Messages survive the way between two processes, numbers to the last bit."""

import struct

import msgspec
import pytest

from headway.base.errors import Cause, MachineError, message_of
from headway.training.distributed.messages import (
    Apply,
    Begin,
    Decision,
    End,
    Evaluate,
    EvaluatedRows,
    LossSums,
    Problem,
    Reports,
    Start,
    Try,
    WorkerReport,
)

FLOAT32 = struct.unpack("<f", struct.pack("<f", 0.1))[0]


@pytest.mark.parametrize(
    "decision",
    [
        Start(2, b'{"schema": "headway.settled/1"}', "/runs/a/checkpoint-6"),
        Try(2, 2048),
        Evaluate(3, EvaluatedRows.HELD_OUT, 256, steps_follow=True),
        Begin(3, 7, 512),
        Apply(4, (FLOAT32, 2.0), (True, False)),
        Apply(5),
        End(),
    ],
)
def test_a_decision_is_what_it_was(decision: Decision) -> None:
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(decision), type=Decision) == decision


def test_a_report_is_what_it_was() -> None:
    refused = message_of(MachineError("the disk is full", cause=Cause.DISK_FULL))
    report = WorkerReport(
        rank=2,
        step=9,
        losses=(FLOAT32, 1e-38),
        rows=(0, 2**40),
        with_gradient=(True, False),
        computing_s=1.25,
        peak_memory=2**40,
        weights=2**64 - 1,
        evaluated=(LossSums(0.1 + 0.2, 1 / 3, 2**40, 7),),
        stop="SIGTERM",
        problem=Problem(refused),
    )
    reports = Reports(8, (report, WorkerReport(3, 9, problem=Problem())))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reports), type=Reports) == reports
