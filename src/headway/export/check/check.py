"""Check of a folder: what its files say, and then what its model answers."""

from collections.abc import Callable, Iterator
from pathlib import Path

from headway.base.errors import Cause, Finding, Refusal, Remedy
from headway.base.files import MANIFEST, verify_folder
from headway.base.foreign.tensors import Tensors
from headway.base.pulse import Phase, Pulse
from headway.base.units import count, plural
from headway.export.check.folder_facts import ModelFacts, read_folder
from headway.export.check.request import SCHEMA, CheckResult, QuestionRequest, QuestionResult
from headway.export.check.rules.learning import learning
from headway.export.check.rules.rounding import rounding
from headway.export.check.rules.weights import weights
from headway.export.check.rules.words import words

_RULES = (weights, words, learning, rounding)
# What keeps a model from being opened, or from answering anything.
_HOPELESS = frozenset(
    (
        *(Cause.WEIGHTS_DAMAGED, Cause.WEIGHTS_MISSING, Cause.WEIGHTS_PICKLED),
        *(Cause.WEIGHTS_NOT_FINITE, Cause.MODEL_INVALID, Cause.CHECKPOINT_DAMAGED),
    )
)
Ask = Callable[[QuestionRequest], QuestionResult]


def check(
    folder: Path,
    base: Path | None,
    pulse: Pulse,
    ask: Ask | None,
    *,
    trust_remote_code: bool = False,
) -> CheckResult:
    """Check a folder.

    Args:
        folder: of a model or adapters, whoever trained them.
        base: folder of the model that they were made of; None if nobody knows.
        pulse: shows what is read.
        ask: opens the model in another process and asks it; None if what that needs is missing.
        trust_remote_code: run code that comes with the model.

    Raises:
        OSError: a folder cannot be listed.
    """
    with pulse.phase(Phase.READING, total=len(_RULES), unit="rules"):
        facts = read_folder(folder, read_folder(base) if base else None)
        findings = list(_manifest(facts))
        for number, rule in enumerate(_RULES):
            findings += rule(facts)
            pulse.progress(number + 1)
    checked, skipped = list(_checked(facts)), list(_skipped(facts, ask))
    if ask and not skipped and not any(one.cause in _HOPELESS for one in findings):
        found = ask(_request(facts, trust_remote_code))
        findings += [one for one in found.findings if not _is_told(one, findings)]
        checked += found.checked
        skipped += found.skipped
    findings.sort(key=lambda one: one.kind != "refused")
    name = str(base) if base else ""
    return CheckResult(SCHEMA, str(folder), name, tuple(findings), tuple(checked), tuple(skipped))


def _manifest(facts: ModelFacts) -> Iterator[Finding]:
    """Files that are not as they were written, where a manifest says how."""
    problems = verify_folder(facts.path) if MANIFEST in facts.names else []
    if problems:
        yield Finding(
            "refused",
            f"{facts.path} is not as it was written",
            have=str(problems[0]) + (f", and {len(problems) - 1} more" if problems[1:] else ""),
            need=f"the files of {MANIFEST}",
            remedies=(Remedy("copy the folder again", "from where it was written"),),
            cause=Cause.CHECKPOINT_DAMAGED,
        )


def _request(facts: ModelFacts, trust_remote_code: bool) -> QuestionRequest:
    return QuestionRequest(
        folder=str(facts.path),
        base=str(facts.base.path) if facts.base else "",
        end_ids=facts.end_ids or (facts.base.end_ids if facts.base else ()),
        trust_remote_code=trust_remote_code,
    )


def _is_told(finding: Finding, others: list[Finding]) -> bool:
    return any(one.cause == finding.cause for one in others)


def _checked(facts: ModelFacts) -> Iterator[str]:
    yield f"{plural(len(facts.tensors), 'tensor')}, {count(_num_weights(facts.tensors))} weights"
    if facts.base:
        yield f"beside {facts.base.path}"


def _num_weights(tensors: Tensors) -> int:
    total = 0
    for one in tensors.values():
        size = 1
        for length in one.shape:
            size *= length
        total += size
    return total


def _skipped(facts: ModelFacts, ask: Ask | None) -> Iterator[str]:
    if ask is None:
        yield "the model was not opened: that needs headway[train]"
    elif facts.is_adapter and facts.base is None:
        yield "the model was not opened: --base MODEL says where its base model is"
    elif facts.is_quantized or (facts.is_adapter and facts.base and facts.base.is_quantized):
        yield "the model was not opened: its weights are quantized"


def refused(refusal: Refusal) -> QuestionResult:
    """The result of a process that could not ask."""
    return QuestionResult((refusal.finding(),))
