"""Safetensors files of a model folder, checked before any weight is loaded.

Weights come from anywhere, so only safetensors are read. `safe_open` refuses a header that does not
match its file: gaps, overlaps, missing or trailing bytes, false shapes. An index may name only
files in its own folder, and nothing is ever unpickled. No torch.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from headway.base.errors import Cause, Remedy, UsageError

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"

_MAX_DIMENSIONS = 64  # torch's limit, which safetensors does not check
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")

Tensors = dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class _Index:
    weight_map: dict[str, str]


def read_header(path: Path) -> Tensors:
    """Name -> (dtype, shape) of every tensor in a safetensors file; reads only the header.

    Raises:
        OSError: the file cannot be opened.
        ValueError: the header does not match the file: its length, a type, a shape, an offset.
    """
    from safetensors import SafetensorError, safe_open

    tensors: Tensors = {}
    try:
        with safe_open(path, framework="np") as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                header = file.get_slice(name)
                tensors[name] = (str(header.get_dtype()), tuple(header.get_shape()))
    except SafetensorError as error:
        reason = str(error).removeprefix("Error while deserializing header: ")[:200]
        raise ValueError(f"{path.name}: {reason}") from None
    for name, (_, shape) in tensors.items():
        if len(shape) > _MAX_DIMENSIONS:
            raise ValueError(f"{path.name}: {name[:80]} has {len(shape)} dimensions")
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The files with the weights of a model or adapters; no other file in the folder is loaded.

    Raises:
        ValueError: the index cannot be read, or names something other than a file next to it.
    """
    if (folder / WHOLE).is_file() or not (folder / INDEX).is_file():
        return [folder / name for name in (ADAPTER, WHOLE) if (folder / name).is_file()]
    adapter = [folder / ADAPTER] if (folder / ADAPTER).is_file() else []
    shards = sorted({*_weight_map(folder).values()})
    for name in shards:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ValueError(
                f"{INDEX}: names {name[:80]!r}, which is not a safetensors file next to it"
            )
        if not (folder / name).is_file():
            raise ValueError(f"{INDEX}: names {name}, which does not exist")
    return adapter + [folder / name for name in shards]


def _weight_map(folder: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index).weight_map
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"{INDEX}: not a safetensors index") from None


def stored_tensors(folder: Path) -> Tensors:
    """Name -> (dtype, shape) of every weight in a folder's files; reads only the headers.

    Raises:
        ValueError: a header does not match its file, or an index its folder.
    """
    tensors: Tensors = {}
    for path in weight_files(folder):
        tensors |= read_header(path)
    return tensors


def find_pickle(folder: Path) -> str:
    """The name of a file in the folder that could run code when read; "" if there is none."""
    return next((path.name for kind in _PICKLES for path in sorted(folder.glob(kind))), "")


def check_file(path: Path) -> None:
    """Check a safetensors file before a library maps it.

    Raises:
        UsageError: its header does not match its bytes, or it does not exist.
    """
    try:
        read_header(path)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error


def check_folder(folder: Path) -> None:
    """Check all weights of a folder before a library loads them.

    Raises:
        UsageError: there are none, they are pickled, or a header does not match its file.
    """
    try:
        tensors = stored_tensors(folder)
    except ValueError as error:
        raise _damaged(folder, str(error)) from error
    if not tensors:
        raise no_weights(folder)


def no_weights(folder: Path) -> UsageError:
    """The refusal of a folder without weights that may be loaded."""
    name = find_pickle(folder)
    if not name:
        return UsageError(
            f"{folder} is not a model folder",
            cause=Cause.WEIGHTS_MISSING,
            have="no *.safetensors",
            need="config.json, *.safetensors and tokenizer.json, as save_pretrained writes them",
            remedies=(Remedy("--preset tiny", "train a new model from scratch"),),
        )
    convert = (
        "from transformers import AutoModelForCausalLM as M; "
        f"M.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
    )
    return UsageError(
        f"{folder} has only pickled weights, which are not loaded",
        cause=Cause.WEIGHTS_PICKLED,
        have=f"{name}, which can run code when loaded, and no *.safetensors",
        need="config.json, *.safetensors and tokenizer.json, as save_pretrained writes them",
        remedies=(Remedy(f'python -c "{convert}"', "converts them, if you trust their source"),),
    )


def _damaged(path: Path, have: str) -> UsageError:
    return UsageError(
        f"the weights in {path} are damaged",
        cause=Cause.WEIGHTS_DAMAGED,
        have=have,
        need="safetensors files whose headers match their bytes",
        remedies=(Remedy(f"ls -l {path}", "shows the files; copy them again from the source"),),
    )
