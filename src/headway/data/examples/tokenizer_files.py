"""Tokenizer files of a foreign folder, with the values read here validated."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec

from headway.base.errors import Cause, Remedy, UsageError
from headway.base.foreign.boundary import Boundary

WORDS = "tokenizer.json"
CONFIG = "tokenizer_config.json"
TEMPLATE = "chat_template.jinja"
# Files of a tokenizer folder; only the first is required.
FILES = (
    WORDS,
    CONFIG,
    "special_tokens_map.json",
    TEMPLATE,
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
)
ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
MAX_ID = (1 << 31) - 1  # of a token: ids are stored as int32
_LONGEST = 1e9  # tokens of context; transformers writes 1e30 where there is no limit


@dataclass(frozen=True)
class ChatTemplates:
    """A tokenizer's templates.

    Attributes:
        file: that they are in.
        default: for conversations; None if there is none.
        tools: a separate one for conversations with tools; None if there is none.
    """

    file: str
    default: str | None = None
    tools: str | None = None


def read_files(path: Path) -> dict[str, bytes]:
    """The files of a tokenizer by name, from a folder or beside a tokenizer.json.

    Raises:
        UsageError: there is no tokenizer, or a file cannot be read.
    """
    folder = path.parent if path.is_file() else path
    files = _read(folder, FILES)
    if path.is_file():
        with invalid(str(path), path.name)():
            files[WORDS] = path.read_bytes()
    if WORDS not in files:
        raise _no_tokenizer(folder)
    return files


def read_end_ids(folder: Path) -> list[int]:
    """The ids that end an answer, according to the model's own files.

    Raises:
        UsageError: a file cannot be read, or names something else.
    """
    files = _read(folder, ("generation_config.json", "config.json"))
    ends: list[int] = []
    for name in files:
        value = read_object(files, name, str(folder)).get("eos_token_id")
        found = [] if value is None else cast("list[Any]", value) if _is_list(value) else [value]
        if not all(type(one) is int for one in found):
            raise invalid(str(folder), name).refusal(
                f"eos_token_id {_shown(value)}, not a number or a list of numbers"
            )
        ends += found
    return [one for one in ends if 0 <= one <= MAX_ID]


def read_object(files: Mapping[str, bytes], name: str, origin: str) -> dict[str, Any]:
    """A JSON object among the files; empty if there is no such file.

    Raises:
        UsageError: it is something else.
    """
    with invalid(origin, name)():
        return msgspec.json.decode(files.get(name, b"{}"), type=dict[str, Any])


def special_tokens(files: Mapping[str, bytes], origin: str) -> dict[str, str]:
    """The special tokens by role; those of tokenizer_config.json come first.

    Raises:
        UsageError: one of them is not text.
    """
    found: dict[str, str] = {}
    for name in (CONFIG, "special_tokens_map.json"):
        named = read_object(files, name, origin)
        for role in ROLES:
            value = named.get(role)
            text = value.get("content") if isinstance(value, dict) else value
            if value and not isinstance(text, str):
                raise invalid(origin, name).refusal(f"{role} {_shown(value)}, which is not text")
            if text:
                found.setdefault(role, cast("str", text))
    return found


def chat_templates(
    files: Mapping[str, bytes], config: Mapping[str, Any], origin: str
) -> ChatTemplates:
    """The chat templates; a chat_template.jinja serves all uses.

    Raises:
        UsageError: a template is not text.
    """
    if TEMPLATE in files:
        with invalid(origin, TEMPLATE)():
            return ChatTemplates(TEMPLATE, files[TEMPLATE].decode())
    given = config.get("chat_template")
    if given is None or isinstance(given, str):
        return ChatTemplates(CONFIG, given)
    try:
        named = msgspec.convert(given, dict[str, str] | list[dict[str, str]])
        if isinstance(named, list):
            named = {one["name"]: one["template"] for one in named}
    except (msgspec.ValidationError, KeyError):
        raise invalid(origin, CONFIG).refusal(
            f"chat_template {_shown(given)}, which is neither text nor templates by name"
        ) from None
    return ChatTemplates(CONFIG, named.get("default"), named.get("tool_use"))


def context_length(config: Mapping[str, Any]) -> int | None:
    """The model's context in tokens, or None if the configuration does not say."""
    limit = config.get("model_max_length")
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        return None
    return int(limit) if 1 <= limit < _LONGEST else None


def invalid(origin: str, name: str) -> Boundary:
    """The refusal of a file.

    Args:
        origin: where the tokenizer is from, as text for people.
        name: of the file.
    """
    return Boundary(
        f"{origin}: cannot read {name}",
        cause=Cause.TOKENIZER_INVALID,
        need="the file that save_pretrained writes",
        remedies=(Remedy("copy the file again", "it may be truncated"),),
    )


def failing(origin: str) -> Boundary:
    """The refusal of a tokenizer that fails while it is used."""
    return Boundary(
        f"{origin}: the tokenizer in {WORDS} fails",
        cause=Cause.TOKENIZER_INVALID,
        need="a tokenizer that encodes any text",
        remedies=(Remedy("copy the file again", "from where the model came from"),),
    )


def _read(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name in names:
        if (folder / name).is_file():
            with invalid(str(folder), name)():
                files[name] = (folder / name).read_bytes()
    return files


def _is_list(value: object) -> bool:
    return isinstance(value, list)


def _shown(value: object) -> str:
    return f"is {value!r}"[:80].encode(errors="replace").decode()


def _no_tokenizer(folder: Path) -> UsageError:
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    place = str(folder)
    line = (
        "from transformers import AutoTokenizer as T; "
        f"T.from_pretrained({place!r}).save_pretrained({place!r})"
    )
    if any(name.startswith(("tokenizer", "vocab.", "spiece")) for name in names):
        remedy = Remedy(f"python -c {shlex.quote(line)}", "converts the files in the folder")
    else:
        remedy = Remedy(f"ls {shlex.quote(str(folder.parent))}", "it may be in another folder")
    return UsageError(
        f"{folder} has no tokenizer.json",
        cause=Cause.TOKENIZER_NOT_FOUND,
        have=", ".join(names[:8]) or ("an empty folder" if folder.exists() else "no such folder"),
        need="a tokenizer in the format of the tokenizers library",
        remedies=(remedy,),
    )
