"""Comparison of a transformers folder, opened by a fresh process, with the trained model."""

from dataclasses import dataclass

from torch import Tensor

from headway.base.errors import Cause, Finding, Remedy
from headway.data.examples.tokenizer import Tokenizer
from headway.export.hf.probes import NASTY_TEXT, ExportProbes, loss_of
from headway.export.hf.reload import Reloaded
from headway.export.request import ExportCheck, ExportVerification

# How far logits (as a part of the largest one, if that is above 1) and the loss may be apart: a
# few times what rounding each weight once to the format makes of them.
LIMITS = {"f32": 2e-5, "f16": 1e-2, "bf16": 5e-2}
_SHARE_OF_CHANGE = 0.5  # of what training changed, that writing may undo


@dataclass(frozen=True)
class Trained:
    """What the model that was trained answers.

    Attributes:
        logits_NV: of the probes' rows.
        base_NV: of the same, without its adapters; None for a whole model.
        end_ids: every token that ends an answer.
        tokenizer: its own.
    """

    logits_NV: Tensor
    base_NV: Tensor | None
    end_ids: tuple[int, ...]
    tokenizer: Tokenizer


def compare(
    probes: ExportProbes, trained: Trained, found: Reloaded, logits_NV: Tensor, quantize: str
) -> ExportVerification:
    """Compare what both answered.

    Args:
        probes: what they were asked.
        trained: the model that was trained.
        found: the folder, in a fresh process.
        logits_NV: of that process.
        quantize: number format of the folder's weights.
    """
    checks = (
        _logits(trained.logits_NV, logits_NV, LIMITS[quantize]),
        _loss(probes, trained.logits_NV, found, LIMITS[quantize]),
        _ids(trained.tokenizer, found),
        *([_chat(probes.chat, found.chat)] if probes.chat is not None else []),
        _ends(trained.end_ids, found.end_ids),
        *_change(trained, logits_NV),
    )
    failed = [check for check in checks if not check.passed]
    return ExportVerification(
        judge=f"transformers {found.transformers} in a fresh process",
        checks=checks,
        failure=_failure(failed[0], quantize) if failed else None,
        findings=_unchanged(trained),
    )


def _logits(expected_NV: Tensor, found_NV: Tensor, limit: float) -> ExportCheck:
    what = f"logits at {len(expected_NV)} positions"
    if expected_NV.shape != found_NV.shape:
        shapes = f"{tuple(found_NV.shape)}, not {tuple(expected_NV.shape)}"
        return ExportCheck(what, passed=False, detail=f"shape {shapes}")
    most = float((expected_NV - found_NV).abs().max())
    allowed = limit * max(1.0, float(expected_NV.abs().max()))
    return ExportCheck(what, most <= allowed, most, allowed)


def _loss(probes: ExportProbes, expected_NV: Tensor, found: Reloaded, limit: float) -> ExportCheck:
    expected = loss_of(expected_NV, probes.rows)
    apart = abs(found.loss - expected)
    detail = f"{found.loss:.6f}, trained {expected:.6f}"
    return ExportCheck(
        "loss of the probe", apart <= limit * max(1.0, expected), apart, limit, detail
    )


def _ids(tokenizer: Tokenizer, found: Reloaded) -> ExportCheck:
    expected = tuple(tokenizer.encode([NASTY_TEXT])[0].tolist())
    return ExportCheck(
        f"ids of {len(expected)} tokens of text",
        expected == found.text_ids,
        detail=_first_difference(expected, found.text_ids),
    )


def _chat(expected: str, found: str) -> ExportCheck:
    return ExportCheck(
        "rendered chat", expected == found, detail=_first_difference(expected, found)
    )


def _ends(expected: tuple[int, ...], found: tuple[int, ...]) -> ExportCheck:
    missing = [one for one in expected if one not in found]
    detail = f"{', '.join(map(str, missing))} not in {list(found)}" if missing else ""
    return ExportCheck(f"end tokens {list(expected)}", not missing, detail=detail)


def _change(trained: Trained, logits_NV: Tensor) -> list[ExportCheck]:
    """Whether what the adapters learned is still there."""
    if trained.base_NV is None or logits_NV.shape != trained.logits_NV.shape:
        return []
    learned = float((trained.logits_NV - trained.base_NV).abs().mean())
    if not learned:
        return []
    lost = float((trained.logits_NV - logits_NV).abs().mean()) / learned
    return [
        ExportCheck(
            "part of the training that is lost", lost <= _SHARE_OF_CHANGE, lost, _SHARE_OF_CHANGE
        )
    ]


def _first_difference(expected: tuple[int, ...] | str, found: tuple[int, ...] | str) -> str:
    if expected == found:
        return ""
    pairs = zip(expected, found, strict=False)
    at = next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(found)))
    return f"from {at} on: {found[at : at + 8]!r}, trained {expected[at : at + 8]!r}"


def _failure(check: ExportCheck, quantize: str) -> Finding:
    number = f"{check.measured:.3g}, limit {check.limit:.3g}" if check.measured is not None else ""
    remedy = Remedy("the same command with --verbose", "for a report: this is a bug in Headway")
    if quantize != "f32":
        remedy = Remedy("--quantize f32", "keeps every bit")
    return Finding(
        "refused",
        "the exported folder does not compute what the model computes",
        have=" · ".join(part for part in (check.what, number, check.detail) if part),
        need="the same answers in a fresh process; nothing was written",
        remedies=(remedy,),
        cause=Cause.EXPORT_DIFFERS,
    )


def _unchanged(trained: Trained) -> tuple[Finding, ...]:
    if trained.base_NV is None or bool((trained.logits_NV != trained.base_NV).any()):
        return ()
    return (
        Finding(
            "warning",
            "the adapters change nothing: the model answers as its base model does",
            have="the same logits with and without them",
            need="adapters that were trained",
            remedies=(Remedy("headway check FOLDER", "says what is wrong with them"),),
            cause=Cause.NOT_LEARNED,
        ),
    )
