"""Saved models: none, older than the last step, unchanged, zero, NaN or damaged."""

import re
from collections.abc import Callable, Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.foreign.tensors import TensorBytes, Tensors, has_nan, is_zero
from headway.base.units import count, plural
from headway.guard.judge.rules.losses import is_finite
from headway.guard.judge.rules.remedies import COUNT_OPTIMIZED, COUNT_TRAINABLE
from headway.guard.judge.traces.case import Case
from headway.guard.judge.traces.saved_models import SavedModel, by_series, num_models_unread

_MAX_NAN_BYTES = 2 << 30  # of all models together
_MAX_TENSOR_BYTES = 16 << 20  # of one tensor; a NaN is rarely alone
_STARTS_AT_ZERO = re.compile(r"lora_B|lora_embedding_B")
_ASKS_TO_SAVE = ("save_steps", "save_every", "save_interval", "checkpointing_steps", "save_freq")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")


def models(case: Case) -> Iterator[Finding]:
    """What the models that a run saved say about it."""
    yield from _damaged(case)
    if not case.models:
        yield from _none(case)
        return
    last = [group[-1] for group in by_series(case.models)]
    broken = [*_nan(case, last), *_never_moved(case, last)]
    yield from broken
    if not broken and is_finite(case):
        yield from _unchanged(case)
    yield from _behind(case)


def _damaged(case: Case) -> Iterator[Finding]:
    """Files that were not written to their end."""
    for one in case.unread:
        is_model = one.path.suffix in _WEIGHTS
        yield Finding(
            "refused" if is_model else "warning",
            f"{case.shown(one.path)} cannot be read",
            have=one.why,
            need="a completely written file",
            remedies=(Remedy("df -h .", "shows whether the disk is full"),),
            cause=Cause.WEIGHTS_DAMAGED if is_model else Cause.CHECKPOINT_DAMAGED,
        )


def _none(case: Case) -> Iterator[Finding]:
    """Training that left no model: refused if the command asks to save, else a warning."""
    trained = any(curve.losses for curve in case.curves)
    is_unsure = num_models_unread(case.facts.files) or case.intent.is_set("push_to_hub")
    if not case.ended_by_itself or not trained or is_unsure or case.unread:
        return
    asked = next((n for n in _ASKS_TO_SAVE if (case.intent.number(n) or 0) > 0), "")
    is_off = case.intent.first("save_strategy") == "no"
    every = f"--{asked} {case.intent.options[asked]}" if asked else ""
    yield Finding(
        "refused" if asked and not is_off else "warning",
        "trained, and saved no model",
        have=f"no weights among {plural(len(case.facts.files), 'file')} that it wrote"
        + (f", despite {every}" if every else ""),
        need="a checkpoint; without one, what was learned is lost",
        remedies=(
            Remedy("trainer.save_model(DIR)", "at the end of the script"),
            *((Remedy(f"--{asked} 10", "saves more often"),) if asked and not is_off else ()),
        ),
        cause=Cause.NO_CHECKPOINT,
    )


def _nan(case: Case, last: list[SavedModel]) -> Iterator[Finding]:
    """Models that hold a NaN."""
    left = _MAX_NAN_BYTES
    for model in last:
        bad: list[str] = []
        tensors = case.tensors.get(model.path, {})
        for name, tensor in tensors.items():
            left -= min(tensor.bytes, _MAX_TENSOR_BYTES)
            if left < 0:
                break
            if _holds(tensors, name, has_nan):
                bad.append(name)
        if bad:
            yield Finding(
                "refused",
                f"{case.shown(model.path)} holds NaN",
                have=f"in {count(len(bad))} of {plural(len(tensors), 'tensor')}, such as {bad[0]}",
                need="finite weights: whatever this model computes is NaN",
                remedies=(
                    Remedy("rm -r", f"{case.shown(model.path)}; continue from an earlier one"),
                ),
                cause=Cause.WEIGHTS_NOT_FINITE,
            )


def _never_moved(case: Case, last: list[SavedModel]) -> Iterator[Finding]:
    """Adapters that do nothing: B starts at zero, and is zero still."""
    for model in last:
        tensors = case.tensors.get(model.path, {})
        names = [name for name in tensors if _STARTS_AT_ZERO.search(name)]
        zero = [name for name in names if _holds(tensors, name, is_zero)]
        if not zero:
            continue
        is_all = len(zero) == len(names)
        yield Finding(
            "refused" if is_all else "warning",
            f"the adapter in {case.shown(model.path)} is {'' if is_all else 'partly '}zero",
            have=f"{count(len(zero))} of {plural(len(names), 'lora_B tensor')} hold only zeros"
            + ("" if is_all else f", such as {zero[0]}"),
            need="a lora_B that changed: with zeros, the model equals its base",
            remedies=(
                COUNT_TRAINABLE,
                Remedy("model.print_trainable_parameters()", "in the script, before it trains"),
            ),
            cause=Cause.NOT_LEARNED,
        )


def _holds(tensors: Tensors, name: str, check: Callable[[TensorBytes, int], bool]) -> bool:
    """Whether a tensor passes a check; False if it cannot be read any more."""
    try:
        return check(tensors[name], _MAX_TENSOR_BYTES)
    except OSError:
        return False


def _unchanged(case: Case) -> Iterator[Finding]:
    """Weights that are, byte by byte, what they were."""
    movement = case.movement
    if movement.moved is not False or not movement.first or not movement.last:
        return
    first, last = case.shown(movement.first), case.shown(movement.last)
    yield Finding(
        "refused",
        "the weights did not change",
        have=f"{plural(movement.num_tensors, 'tensor')} of {last}, all equal to those of {first},"
        " byte by byte",
        need="weights that change: an optimizer that has the model's parameters, a learning rate"
        " above 0, trainable parameters, updates that the number format can hold",
        remedies=(
            COUNT_TRAINABLE,
            COUNT_OPTIMIZED,
        ),
        cause=Cause.NOT_LEARNED,
    )


def _behind(case: Case) -> Iterator[Finding]:
    """Steps that were trained after the last checkpoint, and are lost."""
    if not case.written or not case.ended_by_itself:
        return
    last = case.written[-1]
    has_final = any(not model.numbers for model in case.models)
    steps = [step for curve in case.curves for step, _ in curve.losses if step is not None]
    done = max(steps, default=0)
    target = last.max_steps
    if has_final or done <= last.global_step or (target and done > target):
        return
    yield Finding(
        "warning",
        f"the last {plural(done - last.global_step, 'step')} were not saved",
        have=f"step {count(done)} was trained, {case.shown(last.path.parent)} was saved last",
        need="a checkpoint after the last step",
        remedies=(Remedy("trainer.save_model(DIR)", "at the end of the script"),),
        cause=Cause.NO_CHECKPOINT,
    )
