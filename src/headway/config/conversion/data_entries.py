"""Data in other tools' configuration files: files and datasets as Headway names them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from headway.config.conversion.keys import Entry, Key
from headway.config.other_tools.lookup import answer, is_data
from headway.config.other_tools.meaning import Outcome

# Names of loaders of the datasets library, which read `data_files`.
_LOADERS = ("json", "csv", "parquet", "text", "arrow", "jsonl")
_ADDRESSES = ("http://", "https://", "s3://", "hf://")
# Of an entry: what says which rows, and what says how rows are written.
_ADDRESS_KEYS = {"path", "data_files", "name", "split", "type", "ds_type", "subset", "config"}
# Row types that are recognized by their keys; the model's chat template writes them.
_CHATS = ("chat_template", "sharegpt", "chatml", "openai", "input_output", "")
_TEXTS = ("completion", "pretrain", "text")


@dataclass(frozen=True)
class DataLines:
    """What a file says about data.

    Attributes:
        data: files, folders and addresses.
        notes: what the rows come to here, by the key that said it.
        missing: what cannot be done and decides what is trained, by its key.
        used: the keys that say it.
    """

    data: tuple[str, ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    used: frozenset[str] = frozenset()


# Beside a dataset's name: which part of it is meant.
_BESIDE = ("dataset_config", "dataset_config_name", "dataset_train_split", "dataset_split")


def data_of(keys: Sequence[Key], here: Path) -> DataLines:
    """The data that the keys name.

    Args:
        keys: of the whole file.
        here: the file's folder; LLaMA-Factory's dataset_info.json lies below it.
    """
    values = {key.name: key.value for key in keys}
    lines: list[DataLines] = []
    used: set[str] = set()
    for key in keys:
        last = key.name.rpartition(".")[2]
        if not is_data(last):
            continue
        used.add(key.name)
        if key.value in (None, "", []):
            continue
        if key.is_section_list:
            entries = [one for one in cast("list[object]", key.value) if isinstance(one, dict)]
            lines += [
                _entry(f"{key.name}[{number}]", cast("Entry", one))
                for number, one in enumerate(entries)
            ]
        elif key.name == "dataset" and {"stage", "template", "dataset_dir"} & set(values):
            lines.append(_llama_factory(key, values, here))
        else:
            lines.append(_plain(key, values))
            used.update(_BESIDE)
    return DataLines(
        tuple(dict.fromkeys(one for line in lines for one in line.data)),
        tuple(one for line in lines for one in line.notes),
        tuple(one for line in lines for one in line.missing),
        frozenset(used),
    )


def _entry(name: str, entry: Entry) -> DataLines:
    """One dataset of a list: path, data_files, name, split, type and more."""
    path, files = str(entry.get("path") or ""), entry.get("data_files")
    split = str(entry.get("split") or "train")
    config = entry.get("name") or entry.get("subset") or entry.get("config")
    missing: list[tuple[str, str]] = []
    if files and (path in _LOADERS or not path):
        data = _texts(files)
    elif path:
        data = (_address(path, config, split),)
    else:
        data = ()
        missing.append((name, "a path: which file or dataset is meant"))
    if "[" in split:
        missing.append((f"{name}.split", "a whole split: make a file with the part you want"))
    notes, lost = _row_type(f"{name}.type", entry.get("type"))
    missing += lost
    for key, value in entry.items():
        if key in _ADDRESS_KEYS or value in (None, "", [], {}):
            continue
        found = answer(key, value if isinstance(value, str | list) else "{...}")
        needless = found is not None and found.outcome is Outcome.NOT_NEEDED
        if not needless and not _is_usual(key, value):
            reason = found.because if found else "rows are recognized by their keys"
            missing.append((f"{name}.{key}", reason))
    return DataLines(data, tuple(notes), tuple(missing))


def _row_type(name: str, kind: object) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What a type of rows comes to: notes, and what cannot be done."""
    if isinstance(kind, dict):
        return [], [(name, "rows with text, messages, or prompt and completion")]
    word = str(kind or "").partition(".")[0].partition(":")[0]
    if word in _CHATS:
        return [], []
    if word in _TEXTS:
        return [(name, "rows with a field text are trained whole")], []
    if word in ("dpo", "kto", "orpo", "ipo", "stepwise_supervised", "bradley_terry"):
        return [], [(name, "answers: Headway trains without preferences or rewards")]
    return [(name, "the model's own chat template writes these rows, not this prompt")], []


def _is_usual(key: str, value: object) -> bool:
    """Whether a key of an entry says what Headway does anyway."""
    usual = {
        "field_messages": ("messages", "conversations"),
        "message_field_role": ("role", "from"),
        "message_field_content": ("content", "value"),
        "message_property_mappings": None,
        "roles": None,
        "roles_to_train": ("[assistant]", "[gpt]", "[assistant, gpt]"),
        "train_on_eos": ("turn",),
        "field": ("text",),
        "field_instruction": ("instruction",),
        "field_input": ("input",),
        "field_output": ("output",),
        "text_column": ("text",),
        "shards": ("1",),
        "conversation": ("chatml", "llama-3"),
        "columns": None,
    }
    if key not in usual:
        return False
    words = usual[key]
    text = f"[{', '.join(map(str, value))}]" if isinstance(value, list) else str(value)
    if words is not None:
        return text in words
    standard = {"role", "content", "from", "value", "messages", "conversations", "user", "human",
                "assistant", "gpt", "system", "tool"}  # fmt: skip
    return isinstance(value, dict) and _words(cast("Entry", value)) <= standard


def _words(value: Mapping[str, object]) -> set[str]:
    found = set(value)
    for inner in value.values():
        found |= {str(one) for one in inner} if isinstance(inner, list) else {str(inner)}
    return found


def _plain(key: Key, values: Mapping[str, object]) -> DataLines:
    """A name or path, or several; the configuration and split beside it."""
    config = values.get("dataset_config") or values.get("dataset_config_name")
    split = str(values.get("dataset_train_split") or values.get("dataset_split") or "train")
    return DataLines(tuple(_address(one, config, split) for one in _texts(key.value)))


def _llama_factory(key: Key, values: Mapping[str, object], here: Path) -> DataLines:
    """Names that LLaMA-Factory's dataset_info.json explains."""
    folder = Path(str(values.get("dataset_dir") or "data"))
    names = [one.strip() for text in _texts(key.value) for one in text.split(",")]
    for root in (folder, here / folder, here.parent / folder):
        try:
            info = json.loads((root / "dataset_info.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(info, dict):
            lines = [_described(name, cast("Entry", info).get(name), root) for name in names]
            return DataLines(
                tuple(one for line in lines for one in line.data),
                tuple(one for line in lines for one in line.notes),
                tuple(one for line in lines for one in line.missing),
            )
    listed = [one for one in names if Path(one).suffix or "/" in one]
    unknown = [one for one in names if one not in listed]
    need = f"name the file under data: {folder / 'dataset_info.json'} is not here"
    return DataLines(tuple(listed), tuple((f"dataset: {one}", need) for one in unknown))


def _described(name: str, described: object, folder: Path) -> DataLines:
    match described:
        case {"file_name": str(file)}:
            data = str(folder / file)
        case {"hf_hub_url": str(address)}:
            data = f"hf://{address}"
        case _:
            need = "name the file under data: dataset_info.json has none for it"
            return DataLines((), ((f"dataset: {name}", need),))
    if cast("Entry", described).get("ranking") in (True, "true"):
        need = "answers: Headway trains without preferences"
        return DataLines((), (), ((f"dataset: {name}", need),))
    return DataLines((data,))


def _address(path: str, config: object, split: str) -> str:
    """A local path as it is, anything else as a dataset on the Hub."""
    local = Path(path).suffix or path.startswith((".", "/", "~")) or Path(path).exists()
    if path.startswith(_ADDRESSES) or local or path.count("/") != 1:
        return path
    ending = f"/{config}" if config else ""
    return f"hf://{path}{ending}" + (f"@{split}" if split != "train" and "[" not in split else "")


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(str(one) for one in cast("list[object]", value) if one)
    return (str(value),)
