"""Weights: there, readable, finite, and in the number format that the configuration names."""

from collections import Counter
from collections.abc import Iterator

from headway.base.errors import Cause, Finding, Remedy
from headway.base.foreign.tensors import is_finite
from headway.base.foreign.trainer_state import NAME as TRAINER_STATE
from headway.base.units import count, plural
from headway.export.check.folder_facts import CONFIG, ModelFacts
from headway.export.check.rules.fixes import earlier, export_again, list_folder, train_again

_WEIGHTS = (".weight", ".bias", ".lora_embedding_A", ".lora_embedding_B")
_PARTLY = 0.1  # of all matrices: a few may be kept in fp32 on purpose
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def weights(facts: ModelFacts) -> Iterator[Finding]:
    """What the weight files say."""
    yield from _damaged(facts)
    if not facts.tensors:
        if not facts.bad:
            yield _missing(facts)
        return
    yield from _not_finite(facts)
    yield from _other_format(facts)


def _damaged(facts: ModelFacts) -> Iterator[Finding]:
    for one in facts.bad:
        is_log = one.name == TRAINER_STATE
        is_weights = one.name.endswith(".safetensors")
        cause = Cause.WEIGHTS_DAMAGED if is_weights else Cause.MODEL_INVALID
        yield Finding(
            "warning" if is_log else "refused",
            f"{facts.path / one.name} cannot be read",
            have=one.why,
            need="the whole file, as it was written",
            remedies=(list_folder(facts), *earlier(facts)),
            cause=Cause.RUN_UNREADABLE if is_log else cause,
        )


def _missing(facts: ModelFacts) -> Finding:
    if facts.pickles:
        path = str(facts.path)
        convert = (
            "from transformers import AutoModelForCausalLM as M; "
            f"M.from_pretrained({path!r}).save_pretrained({path!r})"
        )
        return Finding(
            "refused",
            f"{facts.path} has its weights in a pickle alone, which can run code when it is read",
            have=", ".join(facts.pickles[:3]),
            need="*.safetensors",
            remedies=(Remedy(f'python -c "{convert}"', "converts them, if you trust them"),),
            cause=Cause.WEIGHTS_PICKLED,
        )
    return Finding(
        "refused",
        f"{facts.path} has no weights",
        have=", ".join(sorted(facts.names)[:6]) or "no files",
        need="model.safetensors or adapter_model.safetensors",
        remedies=(list_folder(facts),),
        cause=Cause.WEIGHTS_MISSING,
    )


def _not_finite(facts: ModelFacts) -> Iterator[Finding]:
    """NaN and infinity in any weight; a buffer may hold a mask."""
    names = [name for name in facts.tensors if name.endswith(_WEIGHTS)]
    bad = [name for name in names if not is_finite(facts.tensors[name])]
    if bad:
        yield Finding(
            "refused",
            f"the weights in {facts.path} are not finite",
            have=f"NaN or infinity in {count(len(bad))} of {plural(len(names), 'tensor')}, such as "
            f"{bad[0]}",
            need="finite weights: whatever this model computes is NaN",
            remedies=(*earlier(facts), train_again(facts, "stops before a NaN is applied")),
            cause=Cause.WEIGHTS_NOT_FINITE,
        )


def _other_format(facts: ModelFacts) -> Iterator[Finding]:
    """Weights in another number format than config.json names, to which loading rounds them."""
    config = facts.files[CONFIG]
    named = str(config.get("dtype") or config.get("torch_dtype") or "").removeprefix("torch.")
    kinds = Counter(
        _DTYPES[one.dtype]
        for name, one in facts.tensors.items()
        if one.dtype in _DTYPES and name.endswith(_WEIGHTS) and len(one.shape) > 1
    )
    if facts.is_adapter or not named or not kinds:
        return
    most = kinds.most_common(1)[0][0]
    if len(kinds) > 1 and min(kinds.values()) / kinds.total() >= _PARTLY:
        listed = ", ".join(f"{count(num)} in {kind}" for kind, num in kinds.most_common())
        yield _rounded(facts, "the weights are in several number formats", f"{listed} tensors")
    elif most != named and named in _DTYPES.values():
        what = "the weights are in another number format than config.json names"
        yield _rounded(facts, what, f"{most} in the files, {named} in config.json")


def _rounded(facts: ModelFacts, what: str, have: str) -> Finding:
    return Finding(
        "refused",
        f"{facts.path}: {what}",
        have=have,
        need="one number format: programs convert to the one in config.json, without a word",
        remedies=(export_again(facts, "writes weights and configuration in float32"),),
        cause=Cause.WEIGHTS_ROUNDED,
    )
