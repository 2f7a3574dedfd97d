"""Conversion of another tool's configuration file to settings of ours, key by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import cast

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.units import plural
from headway.config.conversion.data_entries import DataLines, data_of
from headway.config.conversion.keys import Key, read_keys
from headway.config.other_tools.files import (
    LITGPT,
    LITGPT_MODULES,
    TOOLS,
    TWICE_THE_RANK,
    Tool,
    recognize,
)
from headway.config.other_tools.lookup import answer, answer_of, own_value, text_of
from headway.config.other_tools.meaning import Answer, Outcome
from headway.config.resolve import check
from headway.config.run_name import check_run_name, make_run_name
from headway.config.settings import Given, hints, normalize, printed_name, spellings
from headway.config.values import convert as convert_value

# Settings whose values decide nothing about the weights; one that is not taken is left out.
_WITHOUT_EFFECT = ("save_steps", "eval_steps", "logging_steps", "save_total_limit", "run_name")
_SAME_QUANTITY = (
    {"batch_size", "per_device_train_batch_size", "batch_tokens"},
    {"num_train_epochs", "max_steps", "max_tokens", "max_time"},
)


@dataclass
class Conversion:
    """A converted file: our settings with what they were, and what happened to the other keys.

    Attributes:
        settings: ours, with the line that said it.
        unsaid: settings for what the tool does where its file says nothing.
        not_needed, not_here: their lines, with the reason.
        different: what comes close, and how it differs.
        problems: what decides the result and has no counterpart.
    """

    tool: str
    data: tuple[str, ...] = ()
    settings: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    unsaid: dict[str, str] = field(default_factory=dict[str, str])
    not_needed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    not_here: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    different: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    problems: list[Refusal] = field(default_factory=list[Refusal])


def convert(path: Path, tool_name: str = "") -> Conversion:
    """Convert a configuration file.

    Args:
        path: of a YAML or JSON file.
        tool_name: a key of `TOOLS`; "" recognizes the tool by the file's keys.

    Raises:
        UsageError: the file cannot be read, or no tool has such keys.
    """
    keys = read_keys(path)
    tool = TOOLS[tool_name] if tool_name else _recognized(path, keys)
    made = Conversion(tool.name)
    data = data_of(keys, path.parent)
    made.data = data.data
    for key in keys:
        if key.name not in data.used:
            _convert_key(made, path, tool, key)
    _add_data_notes(made, path, data)
    if tool is LITGPT:
        _add_litgpt_modules(made, keys)
    _split_output_dir(made)
    _add_unsaid(made, tool)
    given = [Given(name, value, "you") for name, (value, _) in made.settings.items()]
    made.problems += check(given)[1]
    if not (made.settings or made.data or made.problems):
        raise _nothing(path, tool, keys)
    return made


def _nothing(path: Path, tool: Tool, keys: Sequence[Key]) -> UsageError:
    return UsageError(
        f"{path} has no setting that Headway needs",
        cause=Cause.CONFIG_INVALID,
        have=f"{plural(len(keys), 'key')} of {tool.name}",
        need="a setting, or data",
        remedies=(Remedy("headway plan DATA", "decides everything by itself"),),
    )


def _recognized(path: Path, keys: Sequence[Key]) -> Tool:
    tool, _ = recognize(key.name for key in keys)
    if tool is None:
        raise UsageError(
            f"{path} has no key of a known training tool",
            cause=Cause.CONFIG_INVALID,
            have=", ".join(key.name for key in keys[:6]) or "no keys",
            need=f"a configuration of {', '.join(one.name for one in TOOLS.values())}",
            remedies=tuple(Remedy(f"headway convert {path} --from {name}") for name in TOOLS),
        )
    return tool


def _convert_key(made: Conversion, path: Path, tool: Tool, key: Key) -> None:
    said = f"{key.name}: {_shown(key.value)}".rstrip(": ")
    if key.value is None or key.value == "":
        made.not_needed.append((said, "it sets nothing"))
        return
    value = key.value if not key.is_section_list else "{...}"
    found = answer_in(tool, key.name, value)
    if found is None:
        because = "a setting that Headway knows"
        made.problems.append(_problem(path, key.line, said, Answer(Outcome.NOT_HERE, (), because)))
        made.not_here.append((said, "not known"))
        return
    match found.outcome:
        case Outcome.RENAMED if found.exact:
            for name, ours in found.lines:
                _set(made, path, key, printed_name(spellings()[name]), ours)
        case Outcome.NOT_NEEDED:
            made.not_needed.append((said, found.because))
        case _:
            because = found.because or "a value that Headway accepts"
            made.not_here.append((said, because))
            ours = {name for name, _ in found.lines}
            if found.decides or (not found.exact and not ours & {*_WITHOUT_EFFECT}):
                made.problems.append(_problem(path, key.line, said, found))


def answer_in(tool: Tool, name: str, value: object) -> Answer | None:
    """What becomes of a key: by the tool's own meaning, as ours, or by the common table."""
    if meaning := tool.meaning(name):
        return answer_of(meaning, value)
    row = spellings().get(normalize(name))
    if row is None:
        return answer(name, value)
    ours = own_value(row, value)
    if isinstance(ours, Answer):
        return ours
    if ours is None:
        return Answer(Outcome.NOT_NEEDED, because="the plan decides it")
    try:
        convert_value(hints()[row.name], row.metadata, ours)
    except ValueError as error:
        return Answer(
            Outcome.NOT_HERE, ((row.name, ""),), str(error), row.name not in _WITHOUT_EFFECT
        )
    text = ",".join(map(str, ours)) if isinstance(ours, list | tuple) else text_of(ours)
    return Answer(Outcome.RENAMED, ((row.name, text),))


def _set(made: Conversion, path: Path, key: Key, name: str, value: str) -> None:
    """Set our setting, once; of two keys for it, the one that the tool would follow."""
    said = f"{key.name}: {_shown(key.value)}"
    before = made.settings.get(name)
    if before is None or before[0] == value:
        made.settings.setdefault(name, (value, said))
        return
    stronger = _stronger(name, before[0], value, key.name)
    if stronger is None:
        twice = Answer(Outcome.NOT_HERE, ((name, value),), f"one value for {name}", True)
        made.problems.append(_problem(path, key.line, f"{said} after {before[1]}", twice))
        return
    if stronger == value:
        made.not_needed.append((before[1], f"{said} decides"))
        made.settings[name] = (value, said)
    else:
        made.not_needed.append((said, f"{before[1]} decides"))


def _stronger(name: str, before: str, value: str, key: str) -> str | None:
    """Of two values for one setting, the one that other tools follow; None if it is unclear."""
    match name:
        case "lora.target_modules" if "all-linear" in (before, value):
            return "all-linear"
        case "warmup_steps" if not (_number(name, before) and _number(name, value)):
            return before if not _number(name, value) else value
        case "bf16" if key in ("dtype", "torch_dtype", "model_dtype", "tf32"):
            return before  # of the weights as they are loaded; ours are fp32
        case "bf16":
            return value
        case "run_name":
            return before
        case _:
            return None


def _number(name: str, text: str) -> float:
    """The number that a setting's text stands for."""
    row = spellings()[name]
    return float(cast("float", convert_value(hints()[row.name], row.metadata, text)))


def _add_data_notes(made: Conversion, path: Path, data: DataLines) -> None:
    made.different += data.notes
    for said, need in data.missing:
        made.not_here.append((said, need))
        made.problems.append(_problem(path, 0, said, Answer(Outcome.NOT_HERE, (), need, True)))


def _add_litgpt_modules(made: Conversion, keys: Sequence[Key]) -> None:
    """LitGPT's switches for modules as a list of them; any of them means LoRA."""
    said = {key.name: text_of(key.value).lower() == "true" for key in keys}
    if not any(name.startswith("lora_") for name in said):
        return
    on = [names for key, (names, usual) in LITGPT_MODULES.items() if said.get(key, usual)]
    made.settings["lora"] = ("true", "lora_r")
    made.settings["lora.target_modules"] = (",".join(on), "lora_query, lora_key, ...")


def _split_output_dir(made: Conversion) -> None:
    """Their folder of one run is our folder of runs and the run's name."""
    value, said = made.settings.get("output_dir", ("", ""))
    path = PurePosixPath(value)
    if not path.name or path.name == "..":
        return
    before = made.settings.get("run_name")
    try:
        name = check_run_name(path.name)
    except ValueError:
        name = make_run_name(path.name)
    if before:
        made.not_needed.append((before[1], "the folder names the run"))
    made.settings["output_dir"] = (str(path.parent), said)
    made.settings["run_name"] = (name, said)


def _add_unsaid(made: Conversion, tool: Tool) -> None:
    """Settings for what the tool does where its file says nothing."""

    def add(values: Mapping[str, str]) -> None:
        given = {spellings()[name].name for name in made.settings}
        for name, value in values.items():
            row = spellings()[name].name
            group = next((names for names in _SAME_QUANTITY if row in names), {row})
            if not group & given:
                made.unsaid[name] = value
                made.settings[printed_name(spellings()[name])] = (value, "")

    add(tool.unsaid)
    if made.settings.get("lora", ("", ""))[0] == "true":
        add(tool.unsaid_lora)
    if made.unsaid.get("lora.lora_alpha") == TWICE_THE_RANK:
        alpha = f"{2 * _number('lora.r', made.settings['lora.r'][0]):g}"
        made.unsaid["lora.lora_alpha"] = alpha
        made.settings["lora.lora_alpha"] = (alpha, "")


def _problem(path: Path, line: int, said: str, found: Answer) -> UsageError:
    where = f"{path}:{line}: " if line else f"{path}: "
    rows = [(spellings()[name], value) for name, value in found.lines if value]
    ours = tuple(
        Remedy(f"{printed_name(row)}: {value}", row.metadata["help"]) for row, value in rows
    )
    delete = (Remedy(f"delete line {line}"),) if line else ()
    return UsageError(
        f"{where}{said} is not available",
        cause=Cause.UNKNOWN_SETTING,
        have=said,
        need=found.because,
        remedies=(*ours, *delete) or (Remedy(f"without {said.partition(':')[0]}"),),
    )


def _shown(value: object) -> str:
    match value:
        case list() if any(isinstance(one, dict) for one in value):
            return "[...]"
        case dict():
            return "{...}"
        case _:
            return " ".join(text_of(value).split())[:80]
