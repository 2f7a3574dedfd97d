"""Settings files in YAML: reading with file:line:column, and writing run.yaml."""

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from headway.base.errors import Cause, Refusal, Remedy, UsageError
from headway.base.units import plural
from headway.config.other_tools.files import tool_of
from headway.config.other_tools.lookup import answer, is_data
from headway.config.resolve import raise_problems, unknown
from headway.config.settings import Given, Settings, example, normalize, printed_name, spellings

_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "timestamp")}


@dataclass(frozen=True)
class SettingsFile:
    """A settings file: its data, every other setting with its position, and what is wrong."""

    data: tuple[str, ...] = ()
    given: tuple[Given, ...] = ()
    problems: tuple[Refusal, ...] = ()
    hint: UsageError | None = None  # the whole of it was written for another tool
    apart: tuple[Given, ...] = ()  # what is in a section that is none of a run


@dataclass(frozen=True)
class _Entry:
    """One `name: value`, the name with its section: `lora.r`."""

    name: str
    key: yaml.Node
    value: yaml.Node


def read_settings(path: Path) -> SettingsFile:
    """Read a settings file; sections become dotted names, `lora: {r: 8}` is `lora.r`.

    Scalars stay text: YAML 1.1 would read 2e-4 as text, 1:30 as 90 and a run called `on` as true.
    `resolve` checks names and values later, together with the flags.

    Raises:
        UsageError: the file cannot be read, is not YAML, or is not a list of settings.
        Problems: several lines are wrong.
    """
    file = scan_settings(path)
    raise_problems(file.problems)
    return file


def scan_settings(path: Path, apart: str = "") -> SettingsFile:
    """The same, with the lines that are wrong as `problems`, to be told with all others.

    Args:
        path: the file.
        apart: a section whose entries are no settings of a run, and are returned by themselves.

    Raises:
        UsageError: the file cannot be read, is not YAML, or is not a list of settings.
    """
    root = read_yaml(path)
    data: tuple[str, ...] = ()
    given: list[Given] = []
    others: list[Given] = []
    seen: dict[str, _Entry] = {}
    problems: list[Refusal] = []
    for entry in _entries(root):
        where = _place(path, entry.key)
        try:
            _check_duplicate(entry, seen, path)
            if apart and entry.name.startswith(f"{apart}."):
                others.append(Given(entry.name, _value(entry, where), where))
            elif entry.name == "data":
                data = _data(entry, where)
            elif is_data(entry.name):
                problems.append(unknown(Given(entry.name, _foreign_value(entry.value), where)))
            elif answer(entry.name, None) and normalize(entry.name) not in spellings():
                given.append(Given(entry.name, _foreign_value(entry.value), where))
            else:
                given.append(Given(entry.name, _value(entry, where), where))
        except UsageError as problem:
            problems.append(problem)
    tool = tool_of(entry.name for entry in seen.values())
    hint = _other_tools_file(path, tool) if tool else None
    return SettingsFile(data, tuple(given), tuple(problems), hint, tuple(others))


def write_settings(settings: Settings, data: tuple[str, ...] = ()) -> str:
    """The text of run.yaml: every setting with its origin; `read_settings` reads it back."""
    lines = ["# Every setting of this run, and where it comes from."]
    if data:
        lines += ["data:", *(f"  - {as_yaml(one)}" for one in data)]
    rows = [(f"{name}: {as_yaml(value)}", origin) for name, value, origin in settings.items()]
    column = max(len(row) for row, _ in rows if len(row) <= 40)
    lines += [f"{row:{column}}  # {' '.join(origin.split())}" for row, origin in rows]
    return "\n".join(lines) + "\n"


def as_yaml(value: object) -> str:
    """A value on one line; text in double quotes, so that YAML cannot reinterpret it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case _:
            plain = list(value) if isinstance(value, tuple) else value
            dumped = yaml.safe_dump(
                plain,
                default_style='"',
                default_flow_style=True,
                allow_unicode=True,
                width=float("inf"),
            )
            return dumped.strip()


def _entries(root: yaml.MappingNode) -> Iterator[_Entry]:
    """The entries in order, those of a section with dotted names."""
    for key, value in root.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            for inner_key, inner in value.value:
                yield _Entry(f"{_name(key)}.{_name(inner_key)}", inner_key, inner)
        else:
            yield _Entry(_name(key), key, value)


def _name(key: yaml.Node) -> str:
    return str(key.value) if isinstance(key, yaml.ScalarNode) else "[a list or section]"


def _value(entry: _Entry, where: str) -> object:
    """None, text, or a list of texts."""
    node = entry.value
    if isinstance(node, yaml.ScalarNode) and node.tag in _PLAIN_TAGS:
        return None if node.tag == _TAG + "null" else node.value
    if isinstance(node, yaml.SequenceNode) and all(
        isinstance(one, yaml.ScalarNode) and one.tag in _PLAIN_TAGS for one in node.value
    ):
        return [one.value for one in node.value]
    raise UsageError(
        f"{where}: {entry.name} has an unsupported value",
        cause=Cause.CONFIG_INVALID,
        have=_kind(node),
        need="a number, text, true, false, or a list of texts",
        remedies=(_example_line(entry.name),),
    )


def _example_line(name: str) -> Remedy:
    """An example line for the setting, or for the one that its section is named after."""
    known = spellings()
    row = known.get(normalize(name)) or known.get(normalize(name.partition(".")[0]))
    if not row:
        return Remedy("name: value", "one setting per line")
    return Remedy(f"{printed_name(row)}: {example(row)}", "for example")


def _kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.MappingNode):
        return "a section inside a section" if node.value else "an empty section"
    if isinstance(node, yaml.SequenceNode):
        return "a list of lists or sections"
    return f"the YAML tag {node.tag}"


def _data(entry: _Entry, where: str) -> tuple[str, ...]:
    value = _value(entry, where)
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list) else (str(value),)


def _foreign_value(node: yaml.Node) -> object:
    """Another tool's value, of any kind: anything but a scalar or a list of scalars is `{...}`."""
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == _TAG + "null" else node.value
    if isinstance(node, yaml.SequenceNode) and node.value:
        inner = [one.value for one in node.value if isinstance(one, yaml.ScalarNode)]
        return inner if len(inner) == len(node.value) else "{...}"
    return "{...}" if node.value else "{}"


def _other_tools_file(path: Path, tool: str) -> UsageError:
    return UsageError(
        f"{path} was written for {tool}",
        cause=Cause.UNKNOWN_SETTING,
        have=f"settings of {tool}",
        need="the same settings under Headway's names",
        remedies=(
            Remedy(f"headway convert {path} -o headway.yaml", "translates it, line by line"),
        ),
    )


def _check_duplicate(entry: _Entry, seen: dict[str, _Entry], path: Path) -> None:
    """Refuse a setting that the file sets twice, under any of its names."""
    row = spellings().get(normalize(entry.name))
    first = seen.setdefault(row.name if row else normalize(entry.name), entry)
    if first is entry:
        return
    lines = [one.key.start_mark.line + 1 for one in (first, entry)]
    raise UsageError(
        f"{_place(path, entry.key)}: {entry.name} is set twice",
        cause=Cause.CONFIG_INVALID,
        have=f"{first.name} on line {lines[0]}, {entry.name} on line {lines[1]}",
        need="each setting only once",
        remedies=tuple(Remedy(f"delete line {line}") for line in lines),
    )


def _place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"


# From a file to a tree of YAML nodes.


def read_yaml(path: Path) -> yaml.MappingNode:
    """The top-level mapping of a file.

    Raises:
        UsageError: the file cannot be read, is not YAML, or is not a list of settings.
    """
    return _root(path, _text_of(path))


def _text_of(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise UsageError(
            f"cannot read {path}",
            cause=Cause.CONFIG_INVALID,
            have=error.strerror or str(error),
            need="a readable settings file",
            remedies=(Remedy(f"ls -ld {path}", "shows its type and permissions"),),
        ) from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].rpartition(b"\n")
        line = raw[: error.start].count(b"\n") + 1
        encoding = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise UsageError(
            f"{path}:{line}:{len(before[2]) + 1}: not UTF-8 text",
            cause=Cause.CONFIG_INVALID,
            have=f"the byte 0x{raw[error.start]:02x}",
            need="UTF-8",
            remedies=(Remedy(f"iconv -f {encoding} -t UTF-8 {path} > utf8-{path.name}"),),
        ) from None


def _missing(path: Path) -> UsageError:
    folder = path.parent
    names = sorted(p.name for p in folder.glob("*.y*ml")) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=2, cutoff=0.5) or names[:2]
    found = plural(len(names), "YAML file") if names else "no YAML file"
    return UsageError(
        f"{path} not found",
        cause=Cause.CONFIG_INVALID,
        have=f"{found} in {folder.absolute()}",
        need="a settings file",
        remedies=tuple(Remedy(f"headway train {folder / name}") for name in near)
        or (Remedy("headway train --help", "every setting is also a flag"),),
    )


def _root(path: Path, text: str) -> yaml.MappingNode:
    """The top-level mapping of settings."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise _not_yaml(path, text, error) from None
    if isinstance(root, yaml.MappingNode):
        return root
    if root is None or root.tag == _TAG + "null":
        raise UsageError(
            f"{path} is empty",
            cause=Cause.CONFIG_INVALID,
            have="no settings",
            need="at least one setting",
            remedies=(Remedy("max_steps: 100", "for example; one setting per line"),),
        )
    raise UsageError(
        f"{_place(path, root)}: not a list of settings",
        cause=Cause.CONFIG_INVALID,
        have="a list" if isinstance(root, yaml.SequenceNode) else "plain text",
        need="lines of `name: value`",
        remedies=_remedies(text),
    )


def _not_yaml(path: Path, text: str, error: Exception) -> UsageError:
    line, column = _position(text, error)
    lines = text.splitlines() or [""]
    return UsageError(
        f"{path}:{line}:{column}: not valid YAML",
        cause=Cause.CONFIG_INVALID,
        have=lines[min(line, len(lines)) - 1].strip() or "the end of the file",
        need=_parser_message(error),
        remedies=_remedies(text),
    )


def _position(text: str, error: Exception) -> tuple[int, int]:
    """Line and column, both counted from 1."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        if mark:
            return mark.line + 1, mark.column + 1
    before = text[: getattr(error, "position", 0)]
    return before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1


def _parser_message(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        return f"YAML ({', '.join(filter(None, (error.context, error.problem)))})"
    if isinstance(error, RecursionError):
        return "less deeply nested sections"
    return "printable characters"


def _remedies(text: str) -> tuple[Remedy, ...]:
    """Fixes for common mistakes in the text; otherwise the form of a settings file."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.match(r" *\t", line):
            return (Remedy(f"line {number}: use spaces instead of tabs"),)
        no_space = re.fullmatch(r"\s*([A-Za-z_][\w.-]*)[:=]([^\s/:=].*)", line)
        if no_space:
            return (Remedy(f"{no_space[1]}: {no_space[2]}", f"line {number}, with a space"),)
    return (Remedy("name: value", "one setting per line, with a space after the colon"),)
