"""Verdict of a run on the model that is exported: what its receipt says against it, if anything."""

from pathlib import Path

import msgspec

from headway.base.errors import Cause, Finding, Remedy, UsageError
from headway.runs.receipt import load_receipt


def run_findings(run: Path | None) -> tuple[Finding, ...]:
    """Warnings about a run that did not end well; none for a model of another trainer.

    Args:
        run: its folder.
    """
    if run is None:
        return ()
    try:
        receipt = load_receipt(run)
    except (OSError, msgspec.MsgspecError, UsageError):
        return (_unfinished("no receipt", run),)
    if receipt.outcome != "finished":
        return (_unfinished(f"a run that is {receipt.outcome}", run),)
    if receipt.is_sound:
        return ()
    broken = receipt.contract.verdict == "broken"
    reasons = receipt.contract.reasons if broken else receipt.learning.reasons
    return (
        Finding(
            "warning",
            "the run broke its contract" if broken else "the model did not learn",
            have="; ".join(reasons[:2]) or receipt.line,
            need="a run that is sound, before anybody relies on its model",
            remedies=(Remedy(f"headway verify {run}", "recomputes its receipt"),),
            cause=Cause.CONTRACT_BROKEN if broken else Cause.NOT_LEARNED,
        ),
    )


def _unfinished(have: str, run: Path) -> Finding:
    return Finding(
        "warning",
        "the model is exported before its run is finished",
        have=have,
        need="its last checkpoint, which the receipt is about",
        remedies=(Remedy(f"headway status {run}", "how far it is"),),
        cause=Cause.NO_RECEIPT,
    )
