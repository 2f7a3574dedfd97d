"""Kubernetes' objects: which fields they have, by its published API.

They are read from lightkube-models, which is generated from that API.
"""

import dataclasses
import importlib
import sys
import types
import typing
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import pytest

# The models are plain dataclasses; the client that they are made for is not needed to read them.
_core = types.ModuleType("lightkube.core.schema")
vars(_core).update(DictMixin=object, field=dataclasses.field, dataclass=dataclasses.dataclass)


def model(module: str, name: str) -> Any:
    """The class of an object, such as apps_v1, Deployment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "lightkube.core", types.ModuleType("lightkube.core"))
        patch.setitem(sys.modules, _core.__name__, _core)
        return getattr(importlib.import_module(f"lightkube.models.{module}"), name)


def problems(value: Any, kind: Any, where: str = "") -> list[str]:
    """Where a value is not of its kind."""
    if isinstance(kind, dict):
        known = {name.removesuffix("!"): inner for name, inner in kind.items()}
        missing = {name[:-1] for name in kind if name.endswith("!")}
        return _of_fields(value, known, missing, where)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        required = {one.name for one in fields(kind) if one.default is MISSING}
        return _of_fields(value, hints, required, where)
    if isinstance(kind, set):
        return [] if value in kind else [f"{where}: {value}"]
    if isinstance(kind, list) or typing.get_origin(kind) is list:
        (inner,) = kind if isinstance(kind, list) else typing.get_args(kind)
        if not isinstance(value, list):
            return [f"{where}: no list"]
        return [
            problem
            for at, one in enumerate(value)
            for problem in problems(one, inner, f"{where}[{at}]")
        ]
    kind = dict if typing.get_origin(kind) is dict else kind
    if typing.get_args(kind):  # Optional[...]
        return min((problems(value, one, where) for one in typing.get_args(kind)), key=len)
    is_kind = kind is Any or (isinstance(value, kind) and (kind is bool) == isinstance(value, bool))
    return [] if is_kind else [f"{where}: {value!r} is no {kind.__name__}"]


def _of_fields(value: Any, known: dict[str, Any], required: set[str], where: str) -> list[str]:
    if not isinstance(value, dict):
        return [f"{where}: no mapping"]
    found = [f"{where}.{name} is unknown" for name in value.keys() - known.keys()]
    found += [f"{where}.{name} is missing" for name in required - value.keys()]
    for name in value.keys() & known.keys():
        found += problems(value[name], known[name], f"{where}.{name}")
    return found
