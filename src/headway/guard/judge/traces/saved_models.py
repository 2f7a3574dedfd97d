"""Saved models: which of the files that a command wrote are weights, and their order."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from headway.guard.facts import TouchedFile

_WEIGHTS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_OTHER_WEIGHTS = (
    *(".gguf", ".npz", ".msgpack", ".h5", ".keras", ".onnx", ".pkl", ".pickle", ".joblib"),
    *(".distcp", ".tar", ".orbax", ".npy"),
)
_NO_MODEL = re.compile(
    r"optim|sched|training_args|rng|random_state|scaler|sampler|dataloader|dl_state|vocab|token|"
    r"embeddings_cache|dataset|cache"
)
_SHARD = re.compile(r"-\d+-of-\d+|_?rank_?\d+|mp_rank_\d+")
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class SavedModel:
    """The weights of a model at one moment: a folder's, or those of one file.

    Attributes:
        path: of the folder or file.
        files: with its weights.
        series: what it shares with the others that were saved in the same way: their name with its
            numbers left out.
        numbers: in its name, such as a step; empty for a model that is saved once.
        changed_at_s: since the start of the command.
    """

    path: Path
    files: tuple[Path, ...]
    series: str
    numbers: tuple[int, ...]
    changed_at_s: float


def saved_models(files: Iterable[TouchedFile], root: Path) -> tuple[SavedModel, ...]:
    """The models among the files that a command wrote, in the order of their series and numbers.

    Args:
        files: that it wrote.
        root: the folder that it ran in; numbers in names above it mean nothing.
    """
    groups: dict[Path, list[TouchedFile]] = {}
    for file in files:
        if file.bytes and file.path.suffix in _WEIGHTS and not _NO_MODEL.search(file.path.name):
            groups.setdefault(_unit(file.path, root), []).append(file)
    models = [
        SavedModel(
            path,
            tuple(sorted(file.path for file in group)),
            f"{path.parent}/{_NUMBER.sub('#', _SHARD.sub('', path.name))}",
            tuple(int(one) for one in _NUMBER.findall(path.name)),
            max(file.changed_at_s for file in group),
        )
        for path, group in groups.items()
    ]
    return tuple(sorted(models, key=lambda one: (one.series, one.numbers, one.changed_at_s)))


def by_series(models: Iterable[SavedModel]) -> list[list[SavedModel]]:
    """Models that were saved in the same way, in order; what changed last comes first."""
    groups: dict[str, list[SavedModel]] = {}
    for model in models:
        groups.setdefault(model.series, []).append(model)
    return sorted(groups.values(), key=lambda group: -group[-1].changed_at_s)


def num_models_unread(files: Iterable[TouchedFile]) -> int:
    """How many files may be models of kinds that are not looked into."""
    return sum(
        1
        for file in files
        if file.bytes
        and file.path.suffix in _OTHER_WEIGHTS
        and not _NO_MODEL.search(file.path.name)
    )


def _unit(path: Path, root: Path) -> Path:
    """What was saved together: a numbered folder, a numbered file, else the folder it is in."""
    inner = path.parent.relative_to(root) if path.is_relative_to(root) else Path(path.parent.name)
    folders = [path.parent, path.parent.parent][: len(inner.parts)]
    if folders and _NUMBER.search(folders[0].name):
        return folders[0]
    if _NUMBER.search(_SHARD.sub("", path.stem)):
        return path
    if len(folders) > 1 and _NUMBER.search(folders[1].name):
        return folders[1]
    return path.parent
