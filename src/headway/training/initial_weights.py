"""Initial weights, a function of the plan alone."""

import json
from pathlib import Path

from torch import nn

from headway.base.errors import Cause, UsageError
from headway.model.load import from_config, from_folder, is_adapter, with_adapter, with_lora
from headway.runs.plan import ModelPlan, Plan


def starting_model(plan: Plan) -> nn.Module:
    """The model before the job's first step: random, from a folder or from its parent.

    Raises:
        UsageError: a folder is missing or does not load.
    """
    model = plan.model
    if model.source == "preset":
        return from_config(model.config, plan.seed)
    loaded = load_folder(Path(model.path), trust_remote_code=model.trust_remote_code)
    return _adapted(loaded, model, plan.seed)


def load_folder(folder: Path, *, trust_remote_code: bool = False) -> nn.Module:
    """Load a model, or adapters on the base model that they name.

    Raises:
        UsageError: the folder or its base does not load.
    """
    if not is_adapter(folder):
        return from_folder(folder, trust_remote_code=trust_remote_code)
    base = Path(
        json.loads((folder / "adapter_config.json").read_bytes())["base_model_name_or_path"]
    )
    if not base.is_dir():
        raise UsageError(
            f"the base model of {folder.name} is missing",
            cause=Cause.MODEL_NOT_FOUND,
            have=f"adapters for {base}",
            need="that folder in its place",
        )
    return with_adapter(from_folder(base, trust_remote_code=trust_remote_code), folder)


def _adapted(loaded: nn.Module, model: ModelPlan, seed: int) -> nn.Module:
    if model.lora is None or is_adapter(Path(model.path)):
        return loaded
    return with_lora(
        loaded,
        r=model.lora.r,
        alpha=model.lora.alpha,
        dropout=model.lora.dropout,
        target_modules=model.lora.target_modules,
        seed=seed,
    )
