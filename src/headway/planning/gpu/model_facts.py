"""Model facts: the shape of a model from its config.json or a GGUF file's header alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.network.hub import is_id
from headway.base.pulse import Pulse
from headway.config.settings import Settings
from headway.model.gguf.architecture import UnsupportedGgufError, config_of
from headway.model.gguf.container import is_gguf, read_gguf
from headway.model.model_config import CONFIG, read_object
from headway.model.presets import config as preset_config
from headway.model.presets import vocab_size
from headway.model.safetensors_index import stored_tensors, weight_files
from headway.model.sizes import ModelShape, count_parameters, shape_of, stored_bytes
from headway.planning.hub_download import download_config
from headway.planning.parent_settings import model_path
from headway.runs.folder import RunFolder, is_run


@dataclass(frozen=True)
class SizedModel:
    """What planning needs of a model without its weights.

    Attributes:
        name: as it was typed.
        config: transformers' config.json.
        shape: of the model.
        parameters: counted in the headers of its weights, else from the shape.
        is_new: a preset, trained from scratch.
        stored_bytes: of a weight in its files; 0 if these were not read.
    """

    name: str
    config: Mapping[str, Any]
    shape: ModelShape
    parameters: int
    is_new: bool = False
    stored_bytes: int = 0


def read_model_facts(settings: Settings, pulse: Pulse) -> SizedModel:
    """The facts of the model that settings name; of one on the Hub, only config.json is fetched.

    Raises:
        UsageError: no model is named, it does not exist, or its sizes are not there.
        ComeBack: the Hub does not respond.
    """
    if settings.preset:
        name = settings.preset
        length = settings.max_length or 256
        config = preset_config(name, settings.vocab_size or vocab_size(name), length, {})
        return _facts(name, config, 0, is_new=True)
    model = settings.model or settings.continue_run
    if not model:
        raise UsageError(
            "plan --gpu needs a model",
            cause=Cause.MISSING_ARGUMENT,
            have="neither --model nor --preset",
            need="the sizes of a model",
            remedies=(
                Remedy("headway plan --gpu 12GB --model DIR", "a folder, a GGUF file, a run"),
                Remedy("headway plan --gpu 12GB --preset base", "a new model"),
            ),
        )
    path = model_path(model, settings.output_dir)
    if is_run(path) and (plan := RunFolder(path).plan()):  # of adapters, their base model's
        facts = _facts(model, plan.model.config, plan.model.parameters)
        return replace(facts, stored_bytes=plan.model.stored_bytes)
    if is_id(model) and not path.exists() and not path.parent.is_dir():
        return _facts(model, read_object(download_config(model, pulse)), 0)
    if is_gguf(path):
        return _of_gguf(path, model)
    folder = path.parent if path.name == CONFIG else path
    if not (folder / CONFIG).is_file():
        raise _no_config(model, f"no {CONFIG} there" if path.exists() else "no such folder")
    config = read_object(folder / CONFIG)
    if not weight_files(folder):
        return _facts(model, config, 0)
    tensors = stored_tensors(folder)
    facts = _facts(model, config, count_parameters(tensors))
    return replace(facts, stored_bytes=stored_bytes(tensors))


def _of_gguf(path: Path, name: str) -> SizedModel:
    try:
        file = read_gguf(path)
        return _facts(name, config_of(file), sum(prod(one.shape) for one in file.tensors.values()))
    except (OSError, ValueError, UnsupportedGgufError) as error:
        raise _no_config(name, str(error)) from error


def _facts(
    name: str, config: Mapping[str, Any], parameters: int, *, is_new: bool = False
) -> SizedModel:
    try:
        shape = shape_of(config)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise _no_config(name, f"sizes that are no numbers: {error}") from error
    if min(shape.hidden, shape.layers, shape.vocab, shape.heads) < 1:
        raise _no_config(name, "a config.json without width, layers, heads or vocabulary")
    return SizedModel(name, config, shape, parameters or _count(shape), is_new)


def _count(shape: ModelShape) -> int:
    """All weights, by the shape; with the experts of each layer instead of one MLP."""
    if not shape.experts:
        return shape.parameters
    mlp = 3 * shape.hidden * shape.intermediate
    experts = 3 * shape.hidden * shape.expert_intermediate * shape.experts
    return shape.parameters + shape.layers * (experts - mlp)


def _no_config(model: str, have: str) -> UsageError:
    return UsageError(
        f"the sizes of {model} cannot be read",
        cause=Cause.MODEL_INVALID,
        have=have,
        need="a folder with config.json, a GGUF file, a run, or owner/name on the Hub",
        remedies=(Remedy("headway plan --gpu 12GB --preset base", "a new model"),),
    )
