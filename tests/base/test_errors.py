"""Refusals: four parts that survive narrow terminals and the way to another process."""

import pickle

import msgspec
import pytest

from headway.base.errors import (
    BrokenContract,
    Cause,
    ComeBack,
    DataRefused,
    Exit,
    Finding,
    MachineError,
    Problems,
    Refusal,
    RefusalMessage,
    Remedy,
    UsageError,
    exit_code,
    four_parts,
    message_of,
    refusal_from,
)

TOO_SHORT = DataRefused(
    "notes.txt is too short for one row",
    cause=Cause.TOO_LITTLE_DATA,
    have="100 tokens",
    need="129, one full row of max_length 128",
    remedies=(
        Remedy("--max-length 64", "1 batch of 1 row, the rest as a short row"),
        Remedy("more text", "29 tokens more, about 120 characters"),
    ),
)


def shown(width: int) -> list[str]:
    return four_parts(TOO_SHORT.what, TOO_SHORT.have, TOO_SHORT.need, TOO_SHORT.remedies, width)


def test_a_refusal_reads_as_four_parts() -> None:
    assert str(TOO_SHORT).splitlines() == [
        "notes.txt is too short for one row",
        "  have  100 tokens",
        "  need  129, one full row of max_length 128",
        "  try   --max-length 64   1 batch of 1 row, the rest as a short row",
        "  try   more text         29 tokens more, about 120 characters",
    ]


@pytest.mark.parametrize("width", [40, 80, 100])
def test_every_line_fits_the_terminal(width: int) -> None:
    assert all(len(line) <= width for line in shown(width))


@pytest.mark.parametrize("width", [40, 80, 100])
def test_no_word_is_lost_by_folding(width: int) -> None:
    words = " ".join(shown(width)).split()
    assert [w for w in words if w not in ("have", "need", "try")] == [
        w for w in " ".join(shown(1000)).split() if w not in ("have", "need", "try")
    ]


def test_a_line_to_type_is_never_folded() -> None:
    command = "headway train notes.txt --max-length 64 --batch-size 12 --num-train-epochs 3"
    lines = four_parts("no", "", "", (Remedy(command, "what it gives"),), width=40)
    assert f"  try   {command}" in lines
    assert any("what it gives" in line for line in lines)


def test_parts_that_are_not_there_take_no_line() -> None:
    assert str(UsageError("no run here", cause=Cause.RUN_NOT_FOUND)) == "no run here"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (UsageError, 2),
        (DataRefused, 3),
        (BrokenContract, 4),
        (MachineError, 5),
        (ComeBack, 75),
    ],
)
def test_each_kind_has_its_exit_code(kind: type[Refusal], code: int) -> None:
    assert exit_code(kind("x", cause=Cause.BUG)) == code


def test_several_problems_are_all_told_and_the_first_gives_the_code() -> None:
    both = Problems((TOO_SHORT, UsageError("unknown setting lrr", cause=Cause.UNKNOWN_SETTING)))
    assert exit_code(both) == Exit.DATA
    assert "too short" in str(both)
    assert "unknown setting lrr" in str(both)


def test_a_refusal_arrives_whole_in_another_process() -> None:
    sent = msgspec.json.encode(message_of(TOO_SHORT))
    arrived = refusal_from(msgspec.json.decode(sent, type=RefusalMessage))
    assert type(arrived) is DataRefused
    assert str(arrived) == str(TOO_SHORT)


def test_several_problems_arrive_whole_in_another_process() -> None:
    both = Problems(
        (
            UsageError("a", cause=Cause.INVALID_VALUE, have="1"),
            UsageError("b", cause=Cause.UNKNOWN_SETTING, need="2"),
        )
    )
    arrived = refusal_from(
        msgspec.json.decode(msgspec.json.encode(message_of(both)), type=RefusalMessage)
    )
    assert isinstance(arrived, Problems)
    assert str(arrived) == str(both)


def test_a_refusal_survives_pickling() -> None:
    both = Problems((TOO_SHORT, UsageError("no run here", cause=Cause.RUN_NOT_FOUND)))
    for refusal in (TOO_SHORT, both):
        copy = pickle.loads(pickle.dumps(refusal))
        assert type(copy) is type(refusal)
        assert (str(copy), copy.cause) == (str(refusal), refusal.cause)


def test_a_finding_of_an_older_log_has_no_cause() -> None:
    old = RefusalMessage(3, (Finding("refused", "too short", have="100 tokens"),))
    refusal = refusal_from(old)
    assert isinstance(refusal, DataRefused)
    assert refusal.cause is Cause.UNKNOWN


def test_f62_no_part_of_a_refusal_holds_a_credential() -> None:
    secret = "s3://user:canary@b/x"
    remedies = (Remedy(f"headway train {secret} --model DIR", f"reads {secret}"),)
    refusal = UsageError(
        secret, cause=Cause.INVALID_VALUE, have=secret, need=secret, remedies=remedies
    )
    again = refusal_from(message_of(refusal))
    copied = pickle.loads(pickle.dumps(refusal))
    for one in (refusal, again, copied):
        assert "canary" not in str(one) + repr(one.finding()) + repr(one.args)
    assert refusal.remedies[0].do == "headway train s3://b/x --model DIR"
