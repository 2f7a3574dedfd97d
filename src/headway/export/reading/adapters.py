"""PEFT adapters put on their base model, and what kind they are."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import nn

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.foreign.boundary import Boundary
from headway.model.load import is_out_of_memory, with_adapter
from headway.model.model_config import read_object
from headway.model.safetensors_index import check_folder, stored_tensors
from headway.runs.base_model import ADAPTERS

# Of a whole embedding or head that was saved with the adapters.
_EMBEDDINGS = tuple(
    f"{layer}{inner}.weight"
    for layer in ("embed_tokens", "wte", "word_embeddings", "lm_head")
    for inner in ("", ".base_layer")
)
# Tensors of plain LoRA; those of DoRA and of whole modules have other names.
_LORA = (
    ".lora_A.weight",
    ".lora_B.weight",
    ".lora_B.bias",
    ".lora_embedding_A",
    ".lora_embedding_B",
)
_PROMPTS = ("PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "CPT")


def read_kind(folder: Path) -> str:
    """PEFT's name of the kind of adapters in a folder.

    Raises:
        UsageError: they cannot be merged into weights.
    """
    kind = read_object(folder / ADAPTERS).get("peft_type")
    if kind in _PROMPTS or kind == "ADAPTION_PROMPT":
        raise _no_weights(folder, str(kind))
    return str(kind)


def are_plain_lora(folder: Path) -> bool:
    """Whether each adapter adds to one weight and to nothing else: then one at a time will do."""
    config = read_object(folder / ADAPTERS)
    return (
        config.get("peft_type") == "LORA"
        and not config.get("target_parameters")
        and config.get("init_lora_weights", True) in (True, False, "gaussian")  # leave the base
        and all(name.endswith(_LORA) for name in stored_tensors(folder))
    )


def put_adapters(model: nn.Module, folder: Path) -> Any:
    """A model with the adapters in a folder around its layers, every tensor of the file in use.

    An embedding that was saved with them may have more rows than the model's: it is resized.

    Raises:
        UsageError: the adapters do not fit the model.
    """
    check_folder(folder)
    shapes = {name: shape for name, (_, shape) in stored_tensors(folder).items()}
    rows = _embedding_rows(shapes)
    plain = cast("Any", model)
    with _not_fitting(folder)(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing tensors are checked below, and logits later
        if rows and rows != plain.get_input_embeddings().weight.shape[0]:
            plain.resize_token_embeddings(rows, mean_resizing=False)
        adapted = with_adapter(model, folder)
        _check_all_used(cast("Any", adapted), shapes, folder)
    return adapted


def _embedding_rows(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Rows of a whole embedding among the adapters; 0 if there is none."""
    found = (shape for name, shape in shapes.items() if name.endswith(_EMBEDDINGS))
    return next((shape[0] for shape in found if len(shape) == 2), 0)


def _check_all_used(model: Any, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> None:
    """PEFT does without tensors, and leaves tensors out; a model like that was never trained."""
    from peft import get_peft_model_state_dict

    own = get_peft_model_state_dict(model, save_embedding_layers=False).keys()
    missing = sorted(own - shapes.keys())
    unused = sorted(n for n in shapes.keys() - own if not n.endswith(_EMBEDDINGS))
    if missing or unused:
        raise UsageError(
            f"the adapters in {folder} do not fit their base model",
            cause=Cause.WEIGHTS_MISSING if missing else Cause.WEIGHTS_UNUSED,
            have=_listed("not in the file", missing) or _listed("without a layer", unused),
            need="a tensor for each layer that adapter_config.json names, and no other",
            remedies=(Remedy("--model DIR", "the model that they were trained on"),),
        )


def _listed(what: str, names: list[str]) -> str:
    return f"{len(names)} tensors {what}, such as {names[0]}" if names else ""


def _not_fitting(folder: Path) -> Boundary:
    return Boundary(
        f"the adapters in {folder} cannot be put on their base model",
        cause=Cause.MODEL_INVALID,
        need="the model that they were trained on",
        remedies=(Remedy("--model DIR", "the folder of that model"),),
        passes=is_out_of_memory,
    )


def _no_weights(folder: Path, kind: str) -> Refusal:
    return UsageError(
        f"the adapters in {folder} cannot be merged into weights",
        cause=Cause.MODEL_UNSUPPORTED,
        have=f"{kind}: trained tokens in front of each text, no change of a weight",
        need="adapters that add to weights, such as LoRA",
        remedies=(Remedy("headway train DATA --model DIR --lora", "trains LoRA adapters"),),
    )
