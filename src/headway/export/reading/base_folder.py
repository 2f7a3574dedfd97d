"""Base folder: the model that adapters belong to, on this machine or on the Hugging Face Hub."""

from pathlib import Path

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.network.hub import is_id
from headway.base.pulse import Phase, Pulse
from headway.export.request import BaseModel
from headway.model.model_config import read_object
from headway.planning.hub_download import download_model
from headway.runs.base_model import ADAPTERS, expected_hash, find_base_model, weights_hash

_RECORDED = "base_model_name_or_path"


def find_base(adapters: Path, given: str, pulse: Pulse) -> BaseModel:
    """The base model of adapters, by the hash of its weights.

    Args:
        adapters: their folder.
        given: where a person says that the base model is: a folder or owner/name; "" for where
            the adapters say.
        pulse: shows hashing and a download.

    Raises:
        UsageError: it is nowhere, or is not the model that the adapters were trained on.
    """
    name = given or _recorded(adapters)
    if is_id(name) and not Path(name).exists():
        folder = download_model(name, pulse).folder
    else:
        folder = find_base_model(adapters, Path(given) if given else None).resolve()
    with pulse.phase(Phase.HASHING_MODEL):
        found, expected = weights_hash(folder), expected_hash(adapters)
    if expected and found != expected:
        raise _changed(folder, found, expected)
    return BaseModel(name if is_id(name) else folder.name, str(folder), found)


def _recorded(adapters: Path) -> str:
    name = read_object(adapters / ADAPTERS).get(_RECORDED)
    if isinstance(name, str) and name:
        return name
    raise UsageError(
        f"{adapters} does not say which model its adapters belong to",
        cause=Cause.MODEL_NOT_FOUND,
        have=f"no {_RECORDED} in {ADAPTERS}",
        need="the model that they were trained on",
        remedies=(Remedy("--model DIR", "the folder of that model, or owner/name"),),
    )


def _changed(folder: Path, found: str, expected: str) -> Refusal:
    return UsageError(
        f"{folder} is not the model that the adapters were trained on",
        cause=Cause.MODEL_INVALID,
        have=f"weights {found[:12]}",
        need=f"weights {expected[:12]}, as they were when training began",
        remedies=(Remedy("--model DIR", "the folder that has those weights"),),
    )
