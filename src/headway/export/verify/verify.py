"""Verification of a GGUF file: compared in llama.cpp, and the cause where it differs."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.base.errors import Cause, Finding, Remedy
from headway.base.pulse import Pulse
from headway.export.gguf.plan import PlannedFile
from headway.export.request import ExportCheck, ExportVerification
from headway.export.source import ExportSource
from headway.export.verify.checks import (
    CheckOutcome,
    Difference,
    LikelyTokens,
    compare_chats,
    compare_ends,
    compare_probabilities,
    compare_reply,
    compare_template,
    compare_tokens,
    probe,
    probe_ids,
)
from headway.export.verify.llama_cpp import LlamaCpp, LlamaCppError, running
from headway.export.verify.reference import Reference
from headway.export.verify.rounding import judge_rounding, rounds, sensitive
from headway.export.verify.second_judge import judge_template
from headway.export.verify.weights import DifferingWeight, find_differing_weight
from headway.model.gguf.container import read_gguf
from headway.model.gguf.layout import tensor_layout

_CONTEXT = 1024  # tokens; enough for all that is compared
_NO_NAME = "llama.cpp"
_GELU = ("gemma3",)


@dataclass(frozen=True)
class FileVerdict:
    """What came of a comparison, for code.

    Attributes:
        verification: as `export.json` has it.
        differences: in the order of the checks.
        weight: that differs, if that is why.
    """

    verification: ExportVerification
    differences: tuple[Difference, ...] = ()
    weight: DifferingWeight | None = None


def verify_gguf(
    file: Path, source: ExportSource, planned: PlannedFile, quantize: str, pulse: Pulse
) -> FileVerdict:
    """Compare a file in llama.cpp with the model in PyTorch.

    Args:
        file: GGUF.
        source: the model as it was trained.
        planned: how the file was meant to be.
        quantize: the number format of its weights.
        pulse: beats.
    """
    context = min(_CONTEXT, source.config.get("max_position_embeddings") or _CONTEXT)
    try:
        with running(file, context, pulse.beat) as llama:
            reference = Reference(
                source.load_model(), source.tokenizer, begins=planned.vocabulary.add_bos
            )
            stored = read_gguf(file).metadata.get("tokenizer.chat_template")
            outcomes = compare_template(stored, reference)
            outcomes += _outcomes(llama, reference, planned, source, context)
            probed = probe(llama, reference, probe_ids(reference, context))
            name = llama.name
    except LlamaCppError as error:
        failure = _failure(file, [f"{Difference.NOT_LOADED}: {error}"], source, quantize)
        return FileVerdict(ExportVerification(_NO_NAME, failure=failure), (Difference.NOT_LOADED,))
    computed = computed_in(planned.architecture.name, quantize)
    numbers, weight, findings = _compare_numbers(
        file, reference, probed, planned, computed, pulse, is_merged=source.base is not None
    )
    outcomes += numbers
    checks = tuple(one.check for one in outcomes)
    wrong = [one for one in outcomes if one.difference]
    if not wrong:
        judged = () if stored is None else judge_template(file)
        return FileVerdict(ExportVerification(name, checks, findings=(*findings, *judged)))
    differences = tuple(dict.fromkeys(one.difference for one in wrong if one.difference))
    wrong.sort(key=lambda one: one.difference is not Difference.WEIGHTS)  # the cause comes first
    causes = [_cause(one) for one in wrong]
    failed = ExportVerification(name, checks, _failure(file, causes, source, quantize))
    return FileVerdict(failed, differences, weight)


def computed_in(architecture: str, quantize: str) -> str:
    """The number format whose limits hold: llama.cpp reads GELU from a table in 16 bits."""
    return "f16" if quantize == "f32" and architecture in _GELU else quantize


def _compare_numbers(
    file: Path,
    reference: Reference,
    probed: LikelyTokens,
    planned: PlannedFile,
    quantize: str,
    pulse: Pulse,
    *,
    is_merged: bool,
) -> tuple[list[CheckOutcome], DifferingWeight | None, tuple[Finding, ...]]:
    """Compare probabilities; and weights, of a merged model and where probabilities differ.

    If all weights are the model's, rounded as they should be, the number format may be why.
    """
    outcomes = compare_probabilities(probed, reference, quantize)
    differs = any(one.difference for one in outcomes)
    if not differs and not is_merged:
        return outcomes, None, ()
    merged = reference.merged()
    layout = tensor_layout(planned.architecture.config, planned.architecture.name)
    weights: Any = merged.model
    weight = find_differing_weight(read_gguf(file), layout, weights.state_dict(), pulse.beat)
    findings: tuple[Finding, ...] = ()
    if differs and weight is None and rounds(quantize):
        outcomes = judge_rounding(file, layout, merged, probed, quantize, pulse.beat)
        if not any(one.difference for one in outcomes):
            findings = (sensitive(quantize, outcomes),)
    what = "weights, merged here once more" if is_merged else "weights"
    check = ExportCheck(what, passed=weight is None, detail=str(weight or ""))
    outcomes.append(CheckOutcome(check, Difference.WEIGHTS if weight else None))
    return outcomes, weight, findings


def _outcomes(
    llama: LlamaCpp,
    reference: Reference,
    planned: PlannedFile,
    source: ExportSource,
    context: int,
) -> Iterator[CheckOutcome]:
    """All comparisons but those of numbers, the quick ones first."""
    yield from compare_tokens(llama, reference, planned.vocabulary.splits)
    yield from compare_chats(llama, reference, context)
    yield from compare_reply(llama, reference, source.end_ids)  # behind the chat just computed
    yield compare_ends(llama, reference, source.end_ids)


def _cause(wrong: CheckOutcome) -> str:
    """Why a check failed: what differs, by how much, and where."""
    check = wrong.check
    by = ""
    if check.measured is not None and check.limit is not None:
        by = f" ({check.what}: {check.measured:.3g}, limit {check.limit:.3g})"
    return f"{wrong.difference}{by}: {check.detail}".rstrip(": ")


def _failure(file: Path, causes: list[str], source: ExportSource, quantize: str) -> Finding:
    export = f"headway export {shlex.quote(str(source.run or source.folder))} --to gguf"
    base = f" --model {shlex.quote(source.base.folder)}" if source.base and not source.run else ""
    return Finding(
        "refused",
        f"{file.name} is not the model that was trained",
        have="; ".join(causes)[:1000],
        need="the same tokens, chats, probabilities and ends in llama.cpp and in PyTorch",
        remedies=(
            Remedy(f"{export}{base} --quantize f32", "tells whether the number format is why"),
            Remedy(
                f"{export}{base} --quantize {quantize} --no-verify",
                "keeps the file in spite of it, to look at",
            ),
        ),
        cause=Cause.EXPORT_DIFFERS,
    )
