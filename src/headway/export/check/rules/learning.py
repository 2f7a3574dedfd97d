"""Learning: adapters that do nothing, weights that are the base's, a Trainer without steps."""

import math
from collections.abc import Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.foreign.tensors import compare, is_zero
from headway.base.foreign.trainer_state import StateEntry
from headway.base.units import count, plural
from headway.export.check.folder_facts import ModelFacts
from headway.export.check.rules.fixes import earlier, quoted, train_again

_STARTS_AT_ZERO = ("lora_B.weight", "lora_embedding_B")
_NO_LIMIT = 1 << 62


def learning(facts: ModelFacts) -> Iterator[Finding]:
    """What a folder says about whether anything was learned."""
    yield from _zero_adapter(facts)
    yield from _same_as_base(facts)
    yield from _trainer(facts)


def _zero_adapter(facts: ModelFacts) -> Iterator[Finding]:
    """Adapters whose B, which starts at zero, is zero still."""
    names = [name for name in facts.tensors if name.endswith(_STARTS_AT_ZERO)]
    zero = [name for name in names if is_zero(facts.tensors[name], _NO_LIMIT)]
    if not zero:
        return
    is_all = len(zero) == len(names)
    yield Finding(
        "refused" if is_all else "warning",
        f"the adapter in {facts.path} is {'' if is_all else 'partly '}zero",
        have=f"{count(len(zero))} of {plural(len(names), 'lora_B tensor')} hold only zeros"
        + ("" if is_all else f", such as {zero[0]}"),
        need="a lora_B that moved: with zeros, the model is its base",
        remedies=(train_again(facts, "refuses an end without a change, and says why"),),
        cause=Cause.NOT_LEARNED,
    )


def _same_as_base(facts: ModelFacts) -> Iterator[Finding]:
    """Weights that are, byte by byte, those of the base model."""
    if facts.base is None or facts.is_adapter or facts.path == facts.base.path:
        return
    found = compare(facts.tensors, facts.base.tensors, _NO_LIMIT)
    if not found.is_equal or found.num_tensors < len(facts.tensors):
        return
    yield Finding(
        "refused",
        f"{facts.path} is its base model: nothing was learned, or nothing was merged",
        have=f"{plural(found.num_tensors, 'tensor')}, all equal to those of {facts.base.path}, byte"
        " by byte",
        need="weights that differ",
        remedies=(
            Remedy(
                f"headway export ADAPTER --to hf -o {quoted(facts.path)}-merged "
                f"--model {quoted(facts.base.path)}",
                "merges adapters in fp32, and compares",
            ),
            train_again(facts, "refuses an end without a change, and says why"),
        ),
        cause=Cause.NOT_LEARNED,
    )


def _trainer(facts: ModelFacts) -> Iterator[Finding]:
    """trainer_state.json: no step, or losses that no model has."""
    state = facts.state
    if state is None:
        return
    if not state.global_step or state.ended_without_steps:
        yield Finding(
            "refused",
            f"{state.path} says that no step was trained",
            have=f"step {count(state.global_step)}"
            + (" as before: the last training took none" if state.global_step else ""),
            need="at least one update",
            remedies=(train_again(facts, "refuses a run without steps, with numbers that work"),),
            cause=Cause.ENDED_EARLY,
        )
        return
    losses = [one for one in state.entries if one.loss is not None]
    if not losses and state.train_loss is not None:
        losses = [StateEntry(state.global_step, loss=state.train_loss)]  # nothing else was logged
    if not losses:
        return
    if bad := [one for one in losses if not math.isfinite(one.loss or 0.0)]:
        yield _loss(facts, bad, len(losses), "is not a number", Cause.NOT_FINITE)
    elif all(one.loss == 0 for one in losses):
        yield _loss(facts, losses, len(losses), "is 0.0 throughout", Cause.NOT_LEARNED)
    elif losses[-1].loss == 0 and _is_dead(losses[-1]):
        yield _loss(facts, losses[-1:], len(losses), "is 0.0 at the end", Cause.NOT_LEARNED)


def _is_dead(entry: StateEntry) -> bool:
    return entry.grad_norm is None or not entry.grad_norm > 0


def _loss(facts: ModelFacts, bad: list[StateEntry], num: int, what: str, cause: Cause) -> Finding:
    assert facts.state is not None, "it has the losses"
    return Finding(
        "refused",
        f"{facts.state.path}: the loss {what}",
        have=f"{count(len(bad))} of {plural(num, 'loss', 'losses')}, from step {bad[0].step:,} on",
        need="losses above 0: 0.0 means that no token was trained, NaN that the weights are lost",
        remedies=(
            *earlier(facts),
            Remedy("headway plan DATA", "counts the trained tokens of every row"),
        ),
        cause=cause,
    )
