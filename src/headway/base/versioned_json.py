"""JSON values on disk name their schema: ours is read, another Headway's is refused in words."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from headway.base.errors import Remedy, UsageError
from headway.base.version import __version__

Value = TypeVar("Value")


@dataclass(frozen=True)
class _Named:
    schema: str
    version: str = ""


def read(path: Path, kind: type[Value], schema: str) -> Value:
    """A JSON file as a value of `kind`.

    Args:
        path: the file.
        kind: a dataclass with a field `schema`.
        schema: what that field must be, "headway.plan/1".

    Raises:
        OSError: there is no such file.
        msgspec.MsgspecError: it is not such a value.
        UsageError: it is one of a newer Headway.
    """
    data = path.read_bytes()
    try:
        named = msgspec.json.decode(data, type=_Named)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    if named.schema == schema:
        return msgspec.json.decode(data, type=kind)
    if _number(named.schema, schema) > _number(schema, schema):
        raise _newer(path, named, schema)
    raise msgspec.ValidationError(f"schema {named.schema}, not {schema}")


def _number(found: str, ours: str) -> int:
    """The number after the name both have; 0 where the names differ."""
    name, _, number = found.partition("/")
    return int(number) if name == ours.partition("/")[0] and number.isdecimal() else 0


def _newer(path: Path, named: _Named, schema: str) -> UsageError:
    by = f", written by Headway {named.version}" if named.version else ""
    return UsageError(
        f"{path} is of a newer Headway than this one",
        have=f"{named.schema}{by}",
        need=f"{schema}, which Headway {__version__} reads",
        remedies=(Remedy("pip install --upgrade headway", "reads both"),),
    )
