"""Settings resolution: names, values and contradictions, all problems reported together."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import Field
from typing import Any, cast

from headway.base.errors import Cause, Problems, Refusal, Remedy, UsageError
from headway.config import python_spelling
from headway.config.other_tools.lookup import (
    answer,
    is_data,
    other_value,
    own_value,
    text_of,
)
from headway.config.other_tools.meaning import Answer, Outcome
from headway.config.run_name import check_run_name, make_run_name
from headway.config.settings import (
    ChosenBy,
    Given,
    Settings,
    example,
    hints,
    is_flag,
    normalize,
    printed_name,
    spellings,
)
from headway.config.typos import nearest
from headway.config.values import convert

_LONGEST = 80  # characters of a value that a message repeats


def resolve(given: Iterable[Given]) -> Settings:
    """Check the given settings; the last of several values wins.

    Raises:
        UsageError: a setting is unknown or its value is invalid.
        Problems: several are.
    """
    settings, problems = check(given)
    raise_problems(problems)
    return settings


def raise_problems(problems: Sequence[Refusal]) -> None:
    """Raise all problems as one refusal, if there are any."""
    if problems:
        raise problems[0] if len(problems) == 1 else Problems(tuple(problems))


def check(given: Iterable[Given]) -> tuple[Settings, list[Refusal]]:
    """The settings as far as they are valid, and everything that is wrong with the others."""
    known = spellings()
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    inherited: dict[str, ChosenBy] = {}
    problems: list[Refusal] = []
    for one in given:
        row = known.get(normalize(one.name))
        if row is None:
            problems.append(unknown(one))
            continue
        value = own_value(row, one.value)
        if isinstance(value, Answer):
            problems.append(_not_here(row, one, value))
            continue
        try:
            as_planned = value is None and one.value is not None  # "auto", and -1 steps
            values[row.name] = row.default if as_planned else _convert(row, value)
        except ValueError as error:
            problems.append(_invalid(row, one, str(error)))
            continue
        origins.pop(row.name, None)
        inherited.pop(row.name, None)
        if values[row.name] is not None:  # null in a file: the plan decides
            origins[row.name] = one.origin
            if one.chosen_by:
                inherited[row.name] = one.chosen_by
    if any(name.startswith("lora_") for name in values) and "lora" not in values:
        values["lora"], origins["lora"] = True, "because a lora setting is given"
    if values.get("load_in_4bit") and "lora" not in values:
        values["lora"], origins["lora"] = True, "because load_in_4bit trains adapters"
    settings = Settings(**cast("dict[str, Any]", values), origins=origins, inherited=inherited)
    return settings, [*problems, *_contradictions(settings)]


def unknown(one: Given) -> UsageError:
    """An unknown setting, with the line to write instead.

    That is our name for another tool's setting, or the setting it was meant to be if it is no
    farther away than a typo; nothing else is guessed.
    """
    if is_data(one.name):
        return _data_name(one)
    ours = answer(one.name, one.value)
    if ours is not None:
        return _other_tools(one, ours)
    near = nearest(normalize(one.name), spellings())
    if near is None:
        remedies = (Remedy("headway train --help", "lists every setting with its default"),)
    else:
        row, value = spellings()[near], text_of(one.value)
        if not value or not _is_valid(row, value):
            value = example(row)
        remedies = (Remedy(_line(printed_name(row), value, one), row.metadata["help"]),)
    return _unknown(one, "a known setting", remedies)


def _other_tools(one: Given, ours: Answer) -> UsageError:
    """A setting of another tool, with our line for it or why there is none."""
    remedies = _our_lines(ours, one)
    line = _line(one.name, text_of(one.value), one)
    match ours.outcome:
        case Outcome.RENAMED:
            return _unknown(one, "Headway's name for it", remedies)
        case Outcome.NOT_NEEDED:
            what, need = f"{one.name} is not needed", f"nothing: {ours.because}"
        case Outcome.NOT_HERE:
            what, need = f"{_display(line)} is not available", ours.because
    return UsageError(
        f"{_where(one)}{what}",
        cause=Cause.UNKNOWN_SETTING,
        have=line,
        need=need,
        remedies=(*remedies, _leave_out(one)),
    )


def _unknown(one: Given, need: str, remedies: tuple[Remedy, ...]) -> UsageError:
    return UsageError(
        f"{_where(one)}unknown setting {one.name}",
        cause=Cause.UNKNOWN_SETTING,
        have=_line(one.name, text_of(one.value), one),
        need=need,
        remedies=remedies,
    )


def _our_lines(ours: Answer, like: Given) -> tuple[Remedy, ...]:
    """Our settings as remedies, on a command line as one."""
    rows = [(spellings()[name], value) for name, value in ours.lines]
    lines = [_line(printed_name(row), value, like) for row, value in rows]
    if like.origin.startswith("-") and len(lines) > 1:
        return (Remedy(" ".join(lines)),)
    return tuple(
        Remedy(line, f"turns off: {row.metadata['help']}" if off else row.metadata["help"])
        for line, (row, value) in zip(lines, rows, strict=True)
        for off in [is_flag(row) and value == "false"]
    )


def _leave_out(one: Given) -> Remedy:
    """How to leave a setting out."""
    if one.origin.startswith("-") or one.origin == python_spelling.ORIGIN:
        return Remedy(f"without {one.name}")
    if one.origin.endswith("=") or not _where(one):
        return Remedy(f"without {one.name}={text_of(one.value)}")
    place = one.origin.rsplit(":", 2)
    return Remedy(f"delete line {place[1]}" if len(place) == 3 else f"without {one.name}")


def _data_name(one: Given) -> UsageError:
    """Another tool's name for what to train on."""
    typed = one.origin.startswith("-") or one.origin.endswith("=") or not _where(one)
    values = one.value if isinstance(one.value, list | tuple) else [one.value]
    named = [text for text in map(text_of, cast("list[object]", values)) if text]
    if typed:
        line = f"headway train {' '.join(map(shlex.quote, named)) or 'FILE'}"
    else:
        line = f"data: {text_of(named) if len(named) > 1 else ''.join(named) or 'FILE'}"
    need = "the data alone, without a name" if typed else "Headway's name for it"
    return _unknown(one, need, (Remedy(line, "files, folders or patterns"),))


def _where(one: Given) -> str:
    """The position of a setting in a file; "" on the command line."""
    typed = one.origin.startswith("--") or one.origin.endswith("=")
    return "" if typed or one.origin == python_spelling.ORIGIN else f"{one.origin}: "


def _line(name: str, value: str, like: Given) -> str:
    """A setting in the style of `like`: a flag, name=value, an argument, or a line of YAML."""
    if like.origin == python_spelling.ORIGIN:
        return python_spelling.python_argument(name, value)
    if like.origin.endswith("="):
        return f"{name}={value}"
    if not like.origin.startswith("--"):
        return f"{name}: {value}".rstrip(": ")
    flag = name if name.startswith("-") else "--" + name.replace("_", "-")
    row = spellings().get(normalize(name))
    if row and is_flag(row) and value.lower() in ("true", "false"):
        return flag if value.lower() == "true" else f"--no-{flag.removeprefix('--')}"
    return flag if value == "true" else f"{flag} {value}".rstrip()


def _is_valid(row: Field[Any], value: str) -> bool:
    try:
        _convert(row, value)
    except ValueError:
        return False
    return True


def _not_here(row: Field[Any], one: Given, ours: Answer) -> UsageError:
    """A value that another tool takes for this setting, and Headway does not."""
    return UsageError(
        f"{_where(one)}{one.name}: {_display(one.value)} is not available",
        cause=Cause.INVALID_VALUE,
        have=_display(one.value),
        need=ours.because or row.metadata["help"],
        remedies=_our_lines(ours, one) or (_leave_out(one),),
    )


def _invalid(row: Field[Any], one: Given, need: str) -> UsageError:
    near = nearest(str(one.value).lower(), row.metadata["choices"])
    other = other_value(row)
    if near is None and other and one.value:
        return _not_here(row, one, other)
    if row.name == "run_name" and one.value:
        near = make_run_name(str(one.value))
    valid = near or example(row)
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


def _as_given(flag: str, settings: Settings) -> str:
    """The name of a setting as it is spelled where it was given: as a flag, or in Python."""
    is_python = python_spelling.ORIGIN in settings.origins.values()
    return spellings()[normalize(flag)].name if is_python else flag


def adapters_on_random_weights(preset: str) -> UsageError:
    """The refusal of adapters where there are no trained weights to adapt.

    Args:
        preset: of the new model, as asked for or as the plan would choose it.
    """
    return UsageError(
        "--lora trains adapters on frozen weights, and a new model's weights are random",
        cause=Cause.CONTRADICTION,
        have=f"--lora, and a {preset} model from scratch",
        need="all weights trained, or a pretrained model to adapt",
        remedies=(
            Remedy(f"--preset {preset}", "without --lora: trains all weights"),
            Remedy("--lora --model DIR", "adapters on a transformers folder or a run"),
        ),
    )


def _contradictions(settings: Settings) -> list[Refusal]:
    """Settings that are valid separately but not together."""
    problems: list[Refusal] = []

    def clash(first: str, second: str, need: str) -> None:
        first, second = _as_given(first, settings), _as_given(second, settings)
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
    # With a run of adapters, --model says where their base model is now.
    if len(starts) > 1 and starts != ["model", "continue_run"]:
        shown = ["--continue" if name == "continue_run" else f"--{name}" for name in starts]
        clash(shown[0], shown[1], "one model to start from")
    own_rate = settings.learning_rate and "learning_rate" not in settings.inherited
    if own_rate and settings.learning_rate_multiplier:
        clash("--learning-rate", "--learning-rate-multiplier", "one of the two")
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
    if settings.load_in_4bit and not settings.lora:
        clash("--load-in-4bit", "--no-lora", "adapters: weights in 4 bits cannot be trained")
    if settings.preset and settings.lora:
        problems.append(adapters_on_random_weights(settings.preset))
    return problems
