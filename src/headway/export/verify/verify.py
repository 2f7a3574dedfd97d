"""Verification of a GGUF file: compared in llama.cpp, and the cause where it differs."""

from collections.abc import Callable, Iterator
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
    compare_chats,
    compare_ends,
    compare_probabilities,
    compare_reply,
    compare_template,
    compare_tokens,
    probe_ids,
)
from headway.export.verify.llama_cpp import LlamaCpp, LlamaCppError, running
from headway.export.verify.reference import Reference
from headway.export.verify.second_judge import judge_template
from headway.export.verify.weights import DifferingWeight, find_differing_weight
from headway.model.gguf.container import read_gguf
from headway.model.gguf.layout import tensor_layout

_CONTEXT = 1024  # tokens; enough for all that is compared
_NO_NAME = "llama.cpp"


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
            outcomes += _outcomes(llama, reference, planned, source, quantize, context)
            name = llama.name
    except LlamaCppError as error:
        failure = _failure(file, [f"{Difference.NOT_LOADED}: {error}"])
        return FileVerdict(ExportVerification(_NO_NAME, failure=failure), (Difference.NOT_LOADED,))
    suspect = any(one.difference is Difference.PROBABILITIES for one in outcomes)
    weight = None
    if suspect or source.base:
        weight = _differing_weight(file, reference, planned, pulse.beat)
        what = "weights, merged here once more" if source.base else "weights"
        check = ExportCheck(what, passed=weight is None, detail=str(weight or ""))
        outcomes.append(CheckOutcome(check, Difference.WEIGHTS if weight else None))
    checks = tuple(one.check for one in outcomes)
    wrong = [one for one in outcomes if one.difference]
    if not wrong:
        findings = () if stored is None else judge_template(file)
        return FileVerdict(ExportVerification(name, checks, findings=findings))
    differences = tuple(dict.fromkeys(one.difference for one in wrong if one.difference))
    wrong.sort(key=lambda one: one.difference is not Difference.WEIGHTS)  # the cause comes first
    causes = [f"{one.difference}: {one.check.detail}" for one in wrong]
    failed = ExportVerification(name, checks, _failure(file, causes))
    return FileVerdict(failed, differences, weight)


def _outcomes(
    llama: LlamaCpp,
    reference: Reference,
    planned: PlannedFile,
    source: ExportSource,
    quantize: str,
    context: int,
) -> Iterator[CheckOutcome]:
    """All comparisons, the quick ones first."""
    yield from compare_tokens(llama, reference, planned.vocabulary.splits)
    yield from compare_chats(llama, reference, context)
    yield from compare_reply(llama, reference, source.end_ids)  # behind the chat just computed
    ids = probe_ids(reference, context)
    yield from compare_probabilities(llama, reference, ids, quantize)
    yield compare_ends(llama, reference, source.end_ids)


def _differing_weight(
    file: Path, reference: Reference, planned: PlannedFile, on_tensor: Callable[[], None]
) -> DifferingWeight | None:
    """The first weight in the file that is not the model's; adapters are merged for that."""
    model: Any = reference.model
    if hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload(safe_merge=True)
    layout = tensor_layout(planned.architecture.config, planned.architecture.name)
    return find_differing_weight(read_gguf(file), layout, model.state_dict(), on_tensor)


def _failure(file: Path, causes: list[str]) -> Finding:
    return Finding(
        "refused",
        f"{file.name} is not the model that was trained",
        have="; ".join(causes)[:1000],
        need="the same tokens, chats, probabilities and ends in llama.cpp and in PyTorch",
        remedies=(
            Remedy("--no-verify", "keeps the file in spite of it, to look at"),
            Remedy("--quantize f32", "tells whether the number format is why"),
        ),
        cause=Cause.EXPORT_DIFFERS,
    )
