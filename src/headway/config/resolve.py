"""Settings resolution: names, values and contradictions, all problems reported together."""

import difflib
from collections.abc import Iterable
from dataclasses import Field
from typing import Any, cast

from headway.base.errors import Cause, Problems, Refusal, Remedy, UsageError
from headway.config.other_tools import FOREIGN, FOREIGN_VALUES
from headway.config.run_name import check_run_name, make_run_name
from headway.config.settings import (
    Given,
    Settings,
    example,
    hints,
    is_flag,
    normalize,
    printed_name,
    spellings,
)
from headway.config.values import convert

_LONGEST = 80  # characters of a value that a message repeats


def resolve(given: Iterable[Given]) -> Settings:
    """Check the given settings; the last of several values wins.

    Raises:
        UsageError: a setting is unknown or its value is invalid.
        Problems: several are.
    """
    known = spellings()
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    problems: list[Refusal] = []
    for one in given:
        row = known.get(normalize(one.name))
        if row is None:
            problems.append(unknown(one))
            continue
        try:
            values[row.name] = _convert(row, one.value)
        except ValueError as error:
            problems.append(_invalid(row, one, str(error)))
            continue
        origins.pop(row.name, None)
        if values[row.name] is not None:  # null in a file: the plan decides
            origins[row.name] = one.origin
    if any(name.startswith("lora_") for name in values) and "lora" not in values:
        values["lora"], origins["lora"] = True, "because a lora setting is given"
    settings = Settings(**cast("dict[str, Any]", values), origins=origins)
    problems += _contradictions(settings)
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))
    return settings


def unknown(one: Given) -> UsageError:
    """An unknown setting, with the most similar one and the line to write instead."""
    name = normalize(one.name)
    known = spellings()
    ours = FOREIGN.get(name)
    similar = [ours] if ours else difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    rows = [known[n] for n in similar]
    value = "" if one.value is None else f"{one.value}"
    if one.value is True:
        value = "true"
    return UsageError(
        f"{_where(one)}unknown setting {one.name}",
        cause=Cause.UNKNOWN_SETTING,
        have=_line(one.name, value, one),
        need="Headway's name for it" if ours else "a known setting",
        remedies=tuple(
            Remedy(
                _line(printed_name(row), _translate_value(name, row, value), one),
                row.metadata["help"],
            )
            for row in rows
        )
        or (Remedy("headway train --help", "lists every setting with its default"),),
    )


def _where(one: Given) -> str:
    """The position of a setting in a file; "" on the command line."""
    typed = one.origin.startswith("--") or one.origin.endswith("=")
    return "" if typed else f"{one.origin}: "


def _line(name: str, value: str, like: Given) -> str:
    """A setting written in the style of `like`: as a flag, as name=value or as a line of YAML."""
    if like.origin.endswith("="):
        return f"{name}={value}"
    if not like.origin.startswith("--"):
        return f"{name}: {value}".rstrip(": ")
    flag = name if name.startswith("-") else "--" + name.replace("_", "-")
    row = spellings().get(normalize(name))
    if row and is_flag(row) and value.lower() in ("true", "false"):
        return flag if value.lower() == "true" else f"--no-{flag.removeprefix('--')}"
    return flag if value == "true" else f"{flag} {value}".rstrip()


def _translate_value(foreign: str, row: Field[Any], value: str) -> str:
    """Translate another tool's value; an example value if the setting does not accept it."""
    ours = FOREIGN_VALUES.get(foreign, {}).get(value.lower(), value)
    try:
        _convert(row, ours)
    except ValueError:
        return example(row)
    return ours


def _invalid(row: Field[Any], one: Given, need: str) -> UsageError:
    similar = difflib.get_close_matches(str(one.value), row.metadata["choices"], n=1, cutoff=0.4)
    if row.name == "run_name" and one.value:
        similar = [make_run_name(str(one.value))]
    valid = similar[0] if similar else example(row)
    return UsageError(
        f"{_where(one)}{one.name}: invalid value {_display(one.value)}",
        cause=Cause.INVALID_VALUE,
        have=_display(one.value),
        need=need,
        remedies=(Remedy(_line(printed_name(row), valid, one), row.metadata["help"]),),
    )


def _display(value: object) -> str:
    text = "no value" if value is None or value == "" else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _convert(row: Field[Any], value: object) -> object:
    converted = convert(hints()[row.name], row.metadata, value)
    if row.name == "run_name" and isinstance(converted, str):
        return check_run_name(converted)
    return converted


def _contradictions(settings: Settings) -> list[Refusal]:
    """Settings that are valid separately but not together."""
    problems: list[Refusal] = []

    def clash(first: str, second: str, need: str) -> None:
        problems.append(
            UsageError(
                f"{first} and {second} cannot be combined",
                cause=Cause.CONTRADICTION,
                have=f"{first} and {second}",
                need=need,
                remedies=(Remedy(f"remove {second}"), Remedy(f"remove {first}")),
            )
        )

    starts = [name for name in ("model", "preset", "continue_run") if getattr(settings, name)]
    if len(starts) > 1:
        shown = ["--continue" if name == "continue_run" else f"--{name}" for name in starts]
        clash(shown[0], shown[1], "one model to start from")
    if settings.batch_size and settings.batch_tokens:
        clash("--batch-size", "--batch-tokens", "one size for the optimizer step")
    parts = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    if (
        settings.batch_size
        and any(parts)
        and settings.batch_size != (parts[0] or 1) * (parts[1] or 1)
    ):
        clash(
            "--batch-size",
            "--per-device-train-batch-size" if parts[0] else "--gradient-accumulation-steps",
            "batch_size = per_device_train_batch_size x gradient_accumulation_steps",
        )
    if settings.tokenizer and (settings.model or settings.continue_run):
        clash(
            "--model" if settings.model else "--continue",
            "--tokenizer",
            "the model's own tokenizer",
        )
    if settings.tokenizer and settings.vocab_size:
        clash(
            "--tokenizer", "--vocab-size", "either an existing tokenizer or a new one of this size"
        )
    if settings.preset and settings.lora:
        clash("--preset", "--lora", "a pretrained model for the adapters: --model DIR")
    return problems
