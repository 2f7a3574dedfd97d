"""Ending of a watched run: how it ended, and its receipt."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, cast

from torch import Tensor

from headway.base.errors import Cause, Exit, Finding, Refusal, Remedy
from headway.base.units import count, plural
from headway.base.version import __version__
from headway.integrations.seen_totals import SeenTotals
from headway.integrations.trainer_facts import StartFacts
from headway.runs.receipt import ReceiptSteps
from headway.runs.watched.watched_receipt import (
    SCHEMA,
    SeenCheckpoint,
    SeenFacts,
    SeenTensors,
    SeenTime,
    WatchedReceipt,
    judge_seen_contract,
    judge_seen_learning,
    seen_line,
)


@dataclass(frozen=True)
class WatchEnding:
    """How a run ended.

    Attributes:
        outcome: as in the receipt.
        why: what ended it early, "" if nothing did.
        finding: of a failure.
        code: of the process, if the ending decides it.
    """

    outcome: Literal["finished", "interrupted", "failed"]
    why: str = ""
    finding: Finding | None = None
    code: Exit = Exit.BUG

    def exit_code(self, *, is_sound: bool) -> int:
        """The exit code that fits the ending."""
        if self.outcome == "failed":
            return self.code
        if self.outcome == "interrupted" and self.finding is not None:
            return Exit.INTERRUPTED
        return Exit.KEPT if is_sound else Exit.BROKEN


@dataclass(frozen=True)
class Seen:
    """All that was seen of a run when it ended."""

    totals: SeenTotals
    tensors: SeenTensors | None
    checkpoint: SeenCheckpoint | None
    time: SeenTime
    last_global_step: int


def ending_of(error: BaseException, batch: object, embedding_rows: int | None) -> WatchEnding:
    """How a run ends with an exception.

    Args:
        error: that the Trainer raised.
        batch: that was being computed; None if none was.
        embedding_rows: of the model; None if unknown.
    """
    if isinstance(error, Refusal):
        return WatchEnding("failed", error.what, error.finding(), error.code)
    if isinstance(error, KeyboardInterrupt | SystemExit):
        why = "Ctrl+C" if isinstance(error, KeyboardInterrupt) else "the program ended"
        return WatchEnding("interrupted", why, Finding("warning", why, cause=Cause.STOPPED))
    highest = _highest_id(batch)
    if embedding_rows is not None and highest >= embedding_rows:
        finding = Finding(
            "refused",
            f"token {count(highest)} is outside the model's embedding",
            f"an embedding of {plural(embedding_rows, 'row')}; {type(error).__name__}: {error}",
            "tokens of this model's own tokenizer, or a larger embedding",
            (Remedy(f"model.resize_token_embeddings({highest + 1})"),),
            Cause.TOKEN_OUTSIDE_EMBEDDING,
        )
        return WatchEnding("failed", finding.what, finding, Exit.DATA)
    said = str(error).splitlines()[:1]
    text = ": ".join([type(error).__name__, *said])[:200]
    return WatchEnding("failed", text, Finding("refused", text))


def make_receipt(
    run: str, facts: StartFacts, seen: Seen, ending: WatchEnding, not_seen: tuple[str, ...]
) -> WatchedReceipt:
    """The receipt of a run that has ended.

    Args:
        run: its name.
        facts: what was known before its first step.
        seen: what was seen since.
        ending: how it ended.
        not_seen: what the Trainer keeps to itself.
    """
    totals = seen.totals
    steps = ReceiptSteps(facts.first, seen.last_global_step, facts.planned, totals.applied)
    rows = totals.seen(facts.rows if facts.processes == 1 else None)
    rows = replace(rows, processes=facts.processes)
    judged = SeenFacts(
        ending.outcome,
        ending.why,
        steps,
        rows,
        totals.tokens(),
        totals.learned(seen.tensors),
        seen.checkpoint,
    )
    contract = judge_seen_contract(judged)
    learning = judge_seen_learning(judged.learned, totals.applied)
    return WatchedReceipt(
        schema=SCHEMA,
        version=__version__,
        run=run,
        by="HeadwayCallback",
        program=facts.program,
        outcome=ending.outcome,
        why=ending.why,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        steps=steps,
        rows=rows,
        tokens=judged.tokens,
        learning_facts=judged.learned,
        time=seen.time,
        checkpoint=seen.checkpoint,
        not_seen=not_seen,
        contract=contract,
        learning=learning,
        line=seen_line(judged, contract, learning),
    )


def _highest_id(batch: object) -> int:
    """The highest token of a batch; -1 if it cannot be read, as after an error of a device."""
    ids = cast("Mapping[str, Any]", batch).get("input_ids") if isinstance(batch, Mapping) else None
    if not isinstance(ids, Tensor) or ids.device.type != "cpu" or not ids.numel():
        return -1
    return int(ids.max())
