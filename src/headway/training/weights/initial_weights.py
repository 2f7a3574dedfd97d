"""Initial weights, a function of the plan alone."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from headway.data.examples.tokenizer_files import read_end_ids
from headway.model.frozen_weights import (
    from_folder_as_stored,
    from_folder_in_4bit,
    shown_in_fp32,
)
from headway.model.load import from_config, from_folder, is_adapter, with_adapter, with_lora
from headway.runs.base_model import find_base_model
from headway.runs.checkpoint_state import is_on_4bit
from headway.runs.plan import ModelPlan, Plan


def starting_model(
    plan: Plan, read: Callable[..., nn.Module] | None = None, device: str = "cpu"
) -> nn.Module:
    """The model before the job's first step: random, from a folder or from its parent.

    Args:
        plan: of the run.
        read: reads a model folder, as `from_folder` does; by default in the number format that the
            plan computes in, as far as that loses nothing.
        device: where weights go, and are put into 4 bits, if they are.

    Raises:
        UsageError: a folder is missing or does not load.
    """
    model = plan.model
    if model.source == "preset":
        return from_config(model.config, plan.seed)
    base = Path(model.base) if model.base else None
    trusted = model.trust_remote_code
    is_narrow = model.lora is not None and plan.machine.compute_dtype == "bfloat16"
    if model.load_in_4bit:
        read = partial(from_folder_in_4bit, device=device, as_stored=is_narrow)
    elif read is None:
        read = partial(from_folder_as_stored, device=device) if is_narrow else from_folder
    loaded = load_folder(Path(model.path), trust_remote_code=trusted, base=base, read=read)
    return _adapted(loaded, model, plan.seed)


def load_folder(
    folder: Path,
    *,
    trust_remote_code: bool = False,
    base: Path | None = None,
    read: Callable[..., nn.Module] | None = None,
) -> nn.Module:
    """Load a model, or adapters on the base model that they name.

    Args:
        folder: of the model, or of a checkpoint with adapters.
        trust_remote_code: run code that comes with the model.
        base: where a person says that the base model is now.
        read: reads the folder of a whole model; by default as adapters on it were trained: in fp32,
            or with its linear layers in 4 bits.

    Raises:
        UsageError: the folder or its base does not load.
    """
    if read is None:
        in_4bit = is_adapter(folder) and is_on_4bit(folder)
        read = from_folder_in_4bit if in_4bit else from_folder
    if not is_adapter(folder):
        return read(folder, trust_remote_code=trust_remote_code)
    found = find_base_model(folder, base)
    whole = read(found, trust_remote_code=trust_remote_code)
    with shown_in_fp32(whole):
        model: Any = with_adapter(whole, folder)
    add_end_ids(model, read_end_ids(folder))  # PEFT reads adapters only
    for config in model.peft_config.values():  # what is saved names the base where it is now
        config.base_model_name_or_path = str(found)
    return model


def end_ids_of(model: nn.Module) -> list[int]:
    """The ids at which the model stops, according to its generation config."""
    generation: Any = getattr(model, "generation_config", None)
    ends = generation.eos_token_id if generation is not None else None
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def add_end_ids(model: nn.Module, ids: Iterable[int]) -> None:
    """Add ids to those at which the model stops; checkpoints carry them to other programs."""
    generation: Any = getattr(model, "generation_config", None)
    ends = list(dict.fromkeys((*end_ids_of(model), *ids)))
    if generation is not None and ends:
        generation.eos_token_id = ends if len(ends) > 1 else ends[0]


def _adapted(loaded: nn.Module, model: ModelPlan, seed: int) -> nn.Module:
    if model.lora is None or is_adapter(Path(model.path)):
        return loaded
    with shown_in_fp32(loaded):
        return with_lora(
            loaded,
            r=model.lora.r,
            alpha=model.lora.alpha,
            dropout=model.lora.dropout,
            target_modules=model.lora.target_modules,
            seed=seed,
        )
