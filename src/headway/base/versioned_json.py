"""Versioned JSON: read a value of this schema or an older one, refuse a newer one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.version import __version__

Value = TypeVar("Value")
Upgrade = Callable[[dict[str, Any]], dict[str, Any]]

NO_UPGRADES: Mapping[str, Upgrade] = MappingProxyType({})


@dataclass(frozen=True)
class _Header:
    schema: str
    version: str = ""  # of the Headway that wrote it, where the value says so


def read(
    path: Path, kind: type[Value], schema: str, upgrades: Mapping[str, Upgrade] = NO_UPGRADES
) -> Value:
    """Read a JSON file as a value of `kind`.

    Args:
        path: the file.
        kind: a dataclass with a field `schema`.
        schema: the current schema, such as "headway.plan/2".
        upgrades: for each older schema that can still be read, a pure function from the decoded
            value to the same value in the next version. They run in sequence; `schema` itself is
            set here.

    Raises:
        OSError: the file cannot be read.
        msgspec.MsgspecError: it holds no such value.
        UsageError: a newer Headway wrote it.
    """
    data = path.read_bytes()
    try:
        header = msgspec.json.decode(data, type=_Header)
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from error
    if header.schema == schema:
        return msgspec.json.decode(data, type=kind)
    if header.schema in upgrades:
        value = _upgraded(msgspec.json.decode(data, type=dict[str, Any]), schema, upgrades)
        return msgspec.convert(value, kind, str_keys=True)
    if _number(header.schema, schema) > _number(schema, schema):
        raise _newer(path, header, schema)
    raise msgspec.ValidationError(f"expected schema {schema}, found {header.schema}")


def _upgraded(
    value: dict[str, Any], schema: str, upgrades: Mapping[str, Upgrade]
) -> dict[str, Any]:
    """Bring a decoded value of an older version to `schema`, one version at a time.

    Raises:
        msgspec.ValidationError: it lacks what its own version has.
    """
    while (old := value["schema"]) != schema:
        name, _, number = old.partition("/")
        try:
            value = upgrades[old](value) | {"schema": f"{name}/{int(number) + 1}"}
        except (KeyError, TypeError, AttributeError) as error:
            raise msgspec.ValidationError(f"not a valid {old}: {error!r}") from error
    return value


def _number(found: str, current: str) -> int:
    """The version number of a schema; 0 where it is not the same schema at all."""
    name, _, number = found.partition("/")
    return int(number) if name == current.partition("/")[0] and number.isdecimal() else 0


def _newer(path: Path, header: _Header, schema: str) -> UsageError:
    writer = f", written by Headway {header.version}" if header.version else ""
    return UsageError(
        f"{path} was written by a newer Headway",
        cause=Cause.NEWER_VERSION,
        have=f"{header.schema}{writer}",
        need=f"{schema}, which is what Headway {__version__} reads",
        remedies=(Remedy("pip install --upgrade headway", "reads both"),),
    )
