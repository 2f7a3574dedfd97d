"""Rounding: weights that were merged in a number format too coarse for what they learned."""

import json
from collections import Counter
from collections.abc import Iterator
from operator import eq

from headway.base.errors import Cause, Finding, Remedy
from headway.base.files import regular_file
from headway.base.foreign.tensors import TensorBytes, Tensors, pieces
from headway.base.units import plural, share
from headway.export.check.folder_facts import ModelFacts
from headway.export.check.rules.fixes import quoted
from headway.export.request import NOTE, SCHEMA

_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_LOOKED_AT_BYTES = 64 << 10  # of each tensor
_LOST = 0.9  # of the numbers in tensors that changed at all
_MAX_NOTE_BYTES = 1 << 20


def rounding(facts: ModelFacts) -> Iterator[Finding]:
    """What the number formats of a model and of its base say about a merge."""
    if facts.base is None or facts.is_adapter or not facts.tensors:
        return
    if facts.is_quantized and not facts.base.is_quantized:
        yield _quantized(facts)
        return
    own, before = _format(facts.tensors), _format(facts.base.tensors)
    if not own or not before:
        return
    if _WIDTHS[own] < _WIDTHS[before]:
        if not _was_merged_in_fp32(facts):
            yield _narrower(facts, own, before)
    elif own == before and _WIDTHS[own] == 2:
        lost, changed = _unchanged_share(facts.tensors, facts.base.tensors)
        if changed and lost >= _LOST:
            yield _swallowed(facts, own, lost, changed)


def _format(tensors: Tensors) -> str:
    """The number format of most matrices; "" if there are none."""
    kinds = Counter(one.dtype for one in tensors.values() if len(one.shape) > 1)
    most = kinds.most_common(1)
    return most[0][0] if most and most[0][0] in _WIDTHS else ""


def _was_merged_in_fp32(facts: ModelFacts) -> bool:
    """Whether Headway exported this folder: it compares before it rounds."""
    try:
        path = regular_file(facts.path / NOTE)
        if path.stat().st_size > _MAX_NOTE_BYTES:
            return False
        note = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(note, dict) and note.get("schema") == SCHEMA


def _unchanged_share(tensors: Tensors, base: Tensors) -> tuple[float, int]:
    """Which part of the numbers is as in the base, in tensors that changed; and how many did."""
    same = total = changed = 0
    for name, one in tensors.items():
        other = base.get(name)
        if other is None or one.dtype != other.dtype or one.shape != other.shape:
            continue
        if len(one.shape) < 2 or not one.bytes:
            continue
        here, there = _numbers(one), _numbers(other)
        if here != there:
            changed += 1
            total += len(here)
            same += sum(map(eq, here, there))
    return (same / total if total else 0.0), changed


def _numbers(tensor: TensorBytes) -> memoryview:
    """The first numbers of a tensor in a format of two bytes, as their bits."""
    length = min(tensor.bytes, _LOOKED_AT_BYTES) // 2 * 2
    with regular_file(tensor.path).open("rb") as file:
        return memoryview(b"".join(pieces(file, tensor, length))).cast("H")


def _quantized(facts: ModelFacts) -> Finding:
    return Finding(
        "warning",
        f"{facts.path} is quantized, and its base model is not",
        have="a quantization_config in config.json",
        need="a merge in float32: in 4 bits small changes are lost",
        remedies=(_merge_again(facts),),
        cause=Cause.WEIGHTS_ROUNDED,
    )


def _narrower(facts: ModelFacts, own: str, before: str) -> Finding:
    return Finding(
        "warning",
        f"{facts.path} was rounded to {_NAMES[own]}",
        have=f"weights in {_NAMES[own]}, of a model in {_NAMES[before]}",
        need="a merge in float32: in a coarser format small changes are lost",
        remedies=(_merge_again(facts),),
        cause=Cause.WEIGHTS_ROUNDED,
    )


def _swallowed(facts: ModelFacts, own: str, lost: float, changed: int) -> Finding:
    return Finding(
        "warning",
        f"{facts.path}: {_NAMES[own]} swallowed most of what was learned",
        have=f"{share(lost)} of the numbers in {plural(changed, 'changed tensor')} are those of the"
        " base model",
        need="a merge, or weights to train, in float32: there every number moves",
        remedies=(_merge_again(facts),),
        cause=Cause.WEIGHTS_ROUNDED,
    )


def _merge_again(facts: ModelFacts) -> Remedy:
    assert facts.base is not None, "it is compared with its base"
    return Remedy(
        f"headway export ADAPTER --to hf -o {quoted(facts.path)}-fp32 "
        f"--model {quoted(facts.base.path)}",
        "merges the adapters in float32, and compares",
    )
