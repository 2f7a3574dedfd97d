"""Outcomes: what follows from the way the training of a file ended."""

import contextlib
import shlex
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import msgspec

from headway.base.errors import Cause, Exit, Finding, RefusalMessage, Remedy, UsageError
from headway.base.events import Ended, read_events
from headway.runs.receipt import Receipt, load_receipt

MOST_CRASHES = 3
_CRASHES = {Cause.PROCESS_KILLED, Cause.WORKER_LOST, Cause.OUT_OF_MEMORY, Cause.BUG}
# The settings, the model or the inbox: every other file would end like this one.
_NOT_THE_FILES_FAULT = {
    *(Cause.UNKNOWN_SETTING, Cause.INVALID_VALUE, Cause.CONTRADICTION, Cause.CONFIG_INVALID),
    *(Cause.MODEL_REQUIRED, Cause.MODEL_NOT_FOUND, Cause.MODEL_INVALID, Cause.MODEL_NEEDS_CODE),
    *(Cause.MODEL_UNSUPPORTED, Cause.WEIGHTS_PICKLED, Cause.WEIGHTS_DAMAGED, Cause.WEIGHTS_MISSING),
    *(Cause.WEIGHTS_UNUSED, Cause.NO_SUCH_MODULE, Cause.TOKENIZER_NOT_FOUND),
    *(Cause.TOKENIZER_INVALID, Cause.RUN_NOT_FOUND, Cause.RUN_EXISTS, Cause.RUN_UNREADABLE),
    *(Cause.NO_CHECKPOINT, Cause.NEWER_VERSION, Cause.NOTHING_TRAINABLE),
}
_OF_THE_FILE = {Cause.SOURCE_CHANGED, Cause.DATA_CHANGED}


@dataclass(frozen=True)
class TrainingEnd:
    """How the process that trains a file ended.

    Attributes:
        code: its exit code; negative for a signal.
        refused: why it did not train, or stopped; None if it said nothing.
        is_measuring: it is trained, and what is still known is measured beside the next file.
    """

    code: int
    refused: RefusalMessage | None = None
    is_measuring: bool = False


class FileOutcome(StrEnum):
    """What is to be done now."""

    DONE = "done"  # every planned row was trained
    FAILED = "failed"  # the file goes to failed/
    CRASHED = "crashed"  # counts: the file may be what kills it
    AGAIN = "again"  # saved: continues where it stopped
    LATER = "later"  # the machine or a service: the same again, after a while
    STOPPED = "stopped"  # as it was asked to
    GIVE_UP = "give_up"  # no file can be trained with these settings


@dataclass(frozen=True)
class EndVerdict:
    """What is to be done, and why."""

    outcome: FileOutcome
    finding: Finding | None = None


def judge_end(
    end: TrainingEnd, run: Path, *, was_stopped: bool, receipt: Receipt | None
) -> EndVerdict:
    """Decide what the end of a training process means.

    Args:
        end: how it ended.
        run: the folder of the run.
        was_stopped: it was asked to stop.
        receipt: of the run, None if there is none.
    """
    if is_trained(receipt):
        return EndVerdict(FileOutcome.DONE)
    finding = _as_one(end.refused) or _last_finding(run)
    if was_stopped and end.code in (Exit.COME_BACK, Exit.INTERRUPTED):
        return EndVerdict(FileOutcome.STOPPED)
    if end.code < 0:
        return EndVerdict(FileOutcome.CRASHED, finding or _killed(-end.code))
    cause = finding.cause if finding else None
    if cause in _CRASHES or end.code == Exit.BUG:
        return EndVerdict(FileOutcome.CRASHED, finding or _killed(0))
    if cause in _OF_THE_FILE:
        return EndVerdict(FileOutcome.FAILED, finding)
    if end.code == Exit.COME_BACK:
        interrupted = receipt is not None and receipt.outcome == "interrupted"
        return EndVerdict(FileOutcome.AGAIN if interrupted else FileOutcome.LATER, finding)
    if end.code == Exit.MACHINE:
        return EndVerdict(FileOutcome.LATER, finding)
    if cause in _NOT_THE_FILES_FAULT:
        return EndVerdict(FileOutcome.GIVE_UP, finding)
    return EndVerdict(FileOutcome.FAILED, finding or _broken(run, receipt))


def is_trained(receipt: Receipt | None) -> bool:
    """Whether a run trained everything that was planned: the one point of commitment."""
    return (
        receipt is not None
        and receipt.outcome == "finished"
        and receipt.contract.verdict == "kept"
        and receipt.steps.applied > 0
        and receipt.checkpoint is not None
    )


def receipt_of(run: Path) -> Receipt | None:
    """The receipt of a run; None if there is none that can be read."""
    try:
        return load_receipt(run)
    except (OSError, msgspec.MsgspecError, UsageError):
        return None


def _as_one(message: RefusalMessage | None) -> Finding | None:
    """The first of several problems, with the others named in it."""
    if message is None or not message.findings:
        return None
    first, *rest = message.findings
    also = (f"also: {one.what}" for one in rest)
    return replace(first, have="\n".join(filter(None, (first.have, *also))))


def _last_finding(run: Path) -> Finding | None:
    """Why the newest attempt at a run ended, by its log."""
    with contextlib.suppress(OSError):
        for entry in reversed(read_events(run / "events.jsonl")):
            if isinstance(entry.event, Ended):
                return entry.event.finding
    return None


def _broken(run: Path, receipt: Receipt | None) -> Finding:
    reasons = receipt.contract.reasons if receipt else ()
    return Finding(
        "refused",
        "it was not trained as planned",
        "; ".join(reasons) or "no reason given",
        "a run that keeps its contract",
        (Remedy(f"headway logs {shlex.quote(str(run))}", "what happened"),),
        Cause.CONTRACT_BROKEN,
    )


def _killed(number: int) -> Finding:
    return Finding(
        "refused",
        "the process training it died",
        f"signal {number}" if number else "no reason given",
        "a process that is left to finish",
        (Remedy("headway doctor", "how much memory there is"),),
        Cause.PROCESS_KILLED,
    )
