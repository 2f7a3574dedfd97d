"""Keys of a configuration file, whatever its depth, with their lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from headway.base.errors import Cause, Remedy, UsageError
from headway.config.yaml_file import read_yaml

Entry = dict[str, object]
_NULL = "tag:yaml.org,2002:null"
_DEEPEST, _MOST = 12, 5_000


@dataclass(frozen=True)
class Key:
    """One `name: value`, the name with its sections: `train.global_batch_size`.

    Attributes:
        value: text, None, or a list of these and of sections, which are dictionaries.
    """

    name: str
    value: object
    line: int

    @property
    def is_section_list(self) -> bool:
        """Whether the value is a list of sections, as Axolotl's `datasets` is."""
        return isinstance(self.value, list) and any(isinstance(one, dict) for one in self.value)


def read_keys(path: Path) -> list[Key]:
    """The keys of a YAML or JSON file, in order.

    Raises:
        UsageError: the file cannot be read, is neither, or is nested without end.
    """
    keys: list[Key] = []
    for key in _keys(read_yaml(path), "", path, 0):
        keys.append(key)
        if len(keys) > _MOST:
            raise _too_large(path, f"more than {_MOST:,} keys")
    return keys


def _keys(node: yaml.MappingNode, section: str, path: Path, depth: int) -> Iterator[Key]:
    """The keys of a section and of those in it; of two with one name, the later one."""
    if depth > _DEEPEST:
        raise _too_large(path, f"sections {depth} deep")
    merged = [value for key, value in node.value if _scalar(key) == "<<"]
    own = {_scalar(key): (key, value) for key, value in node.value if _scalar(key) != "<<"}
    for inner in merged:
        if isinstance(inner, yaml.MappingNode):
            before = {_scalar(key): (key, value) for key, value in inner.value}
            own = before | own
    for name, (key, value) in own.items():
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _keys(value, f"{section}{name}.", path, depth + 1)
        else:
            yield Key(f"{section}{name}", _plain(value, path, depth), key.start_mark.line + 1)


def _plain(node: yaml.Node, path: Path, depth: int) -> object:
    if depth > _DEEPEST:
        raise _too_large(path, f"values {depth} deep")
    match node:
        case yaml.ScalarNode():
            return None if node.tag == _NULL else str(node.value)
        case yaml.SequenceNode():
            return [_plain(one, path, depth + 1) for one in node.value[:_MOST]]
        case yaml.MappingNode():
            return {_scalar(key): _plain(one, path, depth + 1) for key, one in node.value[:_MOST]}
        case _:
            return None


def _scalar(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "[a list or section]"


def _too_large(path: Path, have: str) -> UsageError:
    return UsageError(
        f"{path} is not a configuration of a training tool",
        cause=Cause.CONFIG_INVALID,
        have=have,
        need="lines of `name: value`, in sections of sections at most",
        remedies=(Remedy("headway train DATA --help", "every setting is also a flag"),),
    )
