"""Intent of a command: what it is for, and what its arguments and configuration ask for."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import cast

import yaml

from headway.base.files import regular_file
from headway.guard.judge.traces.folders import is_file

_MAX_CONFIG_BYTES = 1 << 20
_OPTION = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_OVERRIDE = re.compile(r"\+{0,2}([A-Za-z][\w.-]*)=(.*)", re.DOTALL)
_DATA = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".jsonl.gz", ".md")
_SCRIPTS = (".py", ".sh", ".ipynb")
_TRAIN = re.compile(r"train|finetun|fine.tun|(^|[^a-z])(sft|dpo|grpo|rlhf|fit|run_clm|run_mlm)")
_EVALUATE = re.compile(
    r"(^|[^a-z])(eval|evaluat\w*|predict\w*|infer|inference|generate|sample|lm_eval|benchmark|bench|"
    r"pytest|test|serve|chat|score)([^a-z]|$)"
)
_PREPARE = re.compile(
    r"(^|[^a-z])(prepare|prep|preproc\w*|tokeni[sz]e\w*|download\w*|convert\w*|export|merge\w*|"
    r"clean|split|dedup\w*|quanti[sz]e|data(?!_?parallel))([^a-z]|$)"
)
_YES = ("", "true", "1", "yes", "on")


class Purpose(StrEnum):
    """What a command is for."""

    TRAIN = "train"
    EVALUATE = "evaluate"  # or generate, or serve
    PREPARE = "prepare"  # data or weights
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Intent:
    """What a command is for, and what it asks for.

    Attributes:
        purpose: by its name and arguments.
        options: what its arguments and its configuration file set, by name: lower case,
            underscores, the last part of dotted names. Arguments win.
        data: files with data that its arguments name.
    """

    purpose: Purpose
    options: Mapping[str, str] = field(default_factory=dict[str, str])
    data: tuple[str, ...] = ()

    def first(self, *names: str) -> str:
        """The value of the first of these options that is set; "" if none is."""
        return next((self.options[name] for name in names if self.options.get(name)), "")

    def number(self, *names: str) -> float | None:
        """The same as a number; None if it is not one."""
        try:
            return float(self.first(*names))
        except ValueError:
            return None

    def is_set(self, name: str) -> bool:
        """Whether a switch is on."""
        return name in self.options and self.options[name].lower() in _YES


def read_intent(command: tuple[str, ...], folder: Path) -> Intent:
    """What a command is for.

    Args:
        command: its arguments.
        folder: that it ran in.
    """
    options: dict[str, str] = {}
    for name in command[1:]:
        if name.endswith((".yaml", ".yml")):
            options |= _configured(folder / name)
    options |= dict(_arguments(command))
    data = tuple(
        name
        for name in (*command[1:], *options.values())
        if name.lower().endswith(_DATA) and not name.startswith("-") and is_file(folder / name)
    )
    return Intent(_purpose(command, options), options, tuple(dict.fromkeys(data)))


def _arguments(command: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The options among arguments: `--name value`, `--name=value`, `group.name=value`."""
    for index, argument in enumerate(command[1:], 1):
        following = command[index + 1] if index + 1 < len(command) else "-"
        if found := _OPTION.fullmatch(argument):
            value = found[2]
            if value is None:
                is_next = any(one.fullmatch(following) for one in (_OPTION, _OVERRIDE))
                value = "" if is_next or following == "-" else following
            yield _plain(found[1]), value
        elif found := _OVERRIDE.fullmatch(argument):
            yield _plain(found[1]), found[2]


def _configured(path: Path) -> dict[str, str]:
    """The values of a configuration file, of its first two levels; none if it cannot be read."""
    try:
        if regular_file(path).stat().st_size > _MAX_CONFIG_BYTES:
            return {}
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    if not isinstance(content, dict):
        return {}
    values: dict[str, str] = {}
    for name, value in cast("dict[object, object]", content).items():
        inner = cast("dict[object, object]", value) if isinstance(value, dict) else {name: value}
        values |= {
            _plain(str(key)): str(one)
            for key, one in inner.items()
            if isinstance(one, str | int | float)
        }
    return values


def _plain(name: str) -> str:
    return name.replace("-", "_").rpartition(".")[2].lower()


def _purpose(command: tuple[str, ...], options: Mapping[str, str]) -> Purpose:
    asks_training = options.get("do_train", "false").lower() in _YES
    if asks_training:
        return Purpose.TRAIN
    if "do_train" in options or options.get("do_eval", "no").lower() in _YES:
        return Purpose.EVALUATE
    kinds = [_kind(word) for word in _words(command)]
    order = (Purpose.TRAIN, Purpose.PREPARE, Purpose.EVALUATE)
    return next((kind for kind in order if kind in kinds), Purpose.UNKNOWN)


def _kind(word: str) -> Purpose:
    """What one name is for: `train_eval.py` trains, `prepare_train_data.py` prepares."""
    if _PREPARE.search(word):
        return Purpose.PREPARE
    if _TRAIN.search(word):
        return Purpose.TRAIN
    return Purpose.EVALUATE if _EVALUATE.search(word) else Purpose.UNKNOWN


def _words(command: tuple[str, ...]) -> Iterator[str]:
    """The names in a command that say what it is for: program, verb, scripts, modules."""
    for index, argument in enumerate(command):
        if index and command[index - 1] == "-m":
            yield argument.lower().removesuffix(".__main__").rpartition(".")[2]
            continue
        is_named = index == 0 or argument.endswith(_SCRIPTS)
        is_verb = index == 1 and argument.replace("-", "_").isidentifier()
        if is_named or (is_verb and not argument.startswith("-")):
            yield Path(argument).name.lower()
