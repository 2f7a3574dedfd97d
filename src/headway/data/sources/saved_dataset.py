"""Folders written by `datasets.save_to_disk`: the files with the rows, and the split to train."""

import shlex
from pathlib import Path

import msgspec

from headway.base.errors import Cause, DataRefused, Remedy
from headway.data.sources.split_names import choose_split

STATE = "state.json"  # of a dataset; beside it are its tables
DICTIONARY = "dataset_dict.json"  # of several splits, each in a folder of its own


class _File(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    files: list[_File] = msgspec.field(name="_data_files")
    indices: list[_File] | None = msgspec.field(name="_indices_data_files", default=None)


class _Dictionary(msgspec.Struct):
    splits: list[str]


def saved_files(folder: Path) -> list[str]:
    """The names of the tables of a saved dataset, in order.

    Raises:
        DataRefused: one is missing, or `state.json` cannot be read, or rows were selected from
            the tables without writing them again.
    """
    try:
        state = msgspec.json.decode((folder / STATE).read_bytes(), type=_State)
    except (OSError, ValueError) as error:
        raise _damaged(folder, STATE, str(error)) from error
    names = [file.filename for file in state.files]
    missing = [name for name in names if not (folder / name).is_file() or "/" in name]
    if missing:
        raise _damaged(folder, missing[0], "no such file")
    if state.indices:
        raise _selected(folder)
    return names


def saved_split(folder: Path) -> tuple[str, list[str]]:
    """The name of the split to train on, and those of the others.

    Raises:
        DataRefused: several may be meant, or `dataset_dict.json` cannot be read.
    """
    try:
        splits = msgspec.json.decode((folder / DICTIONARY).read_bytes(), type=_Dictionary).splits
    except (OSError, ValueError) as error:
        raise _damaged(folder, DICTIONARY, str(error)) from error
    chosen = choose_split(splits)
    if chosen is None:
        raise DataRefused(
            f"{folder} holds several splits",
            cause=Cause.NO_USABLE_RECORDS,
            have=", ".join(splits) or "none",
            need="one split, or one named train next to held-out ones",
            remedies=tuple(Remedy(shlex.quote(str(folder / name))) for name in splits[:4])
            or (Remedy(f"ls -l {shlex.quote(str(folder))}", "shows the folder"),),
        )
    return splits[chosen], [name for name in splits if name != splits[chosen]]


def _damaged(folder: Path, name: str, why: str) -> DataRefused:
    return DataRefused(
        f"the dataset in {folder} is incomplete: {name}",
        cause=Cause.SOURCE_DAMAGED,
        have=why,
        need="a folder as save_to_disk writes it",
        remedies=(Remedy(f"ls -l {shlex.quote(str(folder))}", "shows what is there"),),
    )


def _selected(folder: Path) -> DataRefused:
    flat = f"{folder}-flat"
    code = (
        f"from datasets import load_from_disk as load; "
        f"load({str(folder)!r}).flatten_indices().save_to_disk({flat!r})"
    )
    return DataRefused(
        f"the dataset in {folder} is a selection of the rows in its tables",
        cause=Cause.NO_USABLE_RECORDS,
        have="_data_files, and _indices_data_files that say which rows to read",
        need="tables with only the selected rows",
        remedies=(Remedy(f"python -c {shlex.quote(code)}", f"then train {flat}"),),
    )
