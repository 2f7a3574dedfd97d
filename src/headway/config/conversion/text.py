"""Text of a converted file: our settings with their original lines, and notes on the other keys."""

import re
from pathlib import Path

from headway.config.conversion.conversion import Conversion
from headway.config.yaml_file import as_yaml

_COLUMN = 40
_PLAIN = re.compile(r"[\w./][\w./+:-]*")
_SPECIAL = ("null", "~", "true", "false", "yes", "no", "on", "off", "y", "n")
_FLAGS = ("true", "false")


def text_of_conversion(made: Conversion, path: Path) -> str:
    """A settings file that `headway plan` reads."""
    lines = [f"# {path.name}, written for {made.tool}, as Headway's settings."]
    if made.data:
        lines += ["data:", *(f"  - {quoted(one)}" for one in made.data)]
    else:
        lines.append("# data: FILE   or name it on the command line: headway plan THIS.yaml FILE")
    for name, (value, said) in made.settings.items():
        if said:
            line = f"{name}: {_value(name, value)}"
            lines.append(line if said == f"{name}: {value}" else f"{line:{_COLUMN}}  # {said}")
    if made.unsaid:
        lines.append(f"# Defaults of {made.tool} that differ from Headway's:")
        lines += [_unsaid(name, value) for name, value in made.unsaid.items()]
    lines += _commented("Different here:", made.different)
    lines += _commented("Not needed:", made.not_needed)
    lines += _commented("Not available:", made.not_here)
    # What a comment repeats may hold what YAML does not allow.
    shown = ("".join(c if c.isprintable() else "?" for c in line) for line in lines)
    return "\n".join(shown) + "\n"


def quoted(text: str) -> str:
    """A text in YAML: in double quotes unless it can only be read as itself."""
    if _PLAIN.fullmatch(text) and text.lower() not in _SPECIAL and not text.endswith(":"):
        return text
    return as_yaml(text)


def _value(name: str, value: str) -> str:
    if name == "lora.target_modules":
        return f"[{', '.join(map(quoted, value.split(',')))}]"
    return value if value in _FLAGS else quoted(value)


def _unsaid(name: str, value: str) -> str:
    line = f"{name}: {_value(name, value)}"
    if name == "assistant_only_loss":
        return f"{line:{_COLUMN}}  # of conversations; delete it for rows of prompt and completion"
    return line


def _commented(title: str, lines: list[tuple[str, str]]) -> list[str]:
    """What became of keys, one line for all that have the same reason."""
    reasons: dict[str, list[str]] = {}
    for said, reason in lines:
        reasons.setdefault(" ".join(reason.split()), []).append(said)
    shown = [f"#   {', '.join(said)}: {reason}" for reason, said in reasons.items()]
    return [f"# {title}", *shown] if shown else []
