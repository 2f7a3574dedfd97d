"""Redaction: command lines, settings and logs as they may be shown, without secrets in them.

What `hide_credentials` does for addresses, this does for everything else that may hold a secret.
Where it is unclear whether something is one, it is left out.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from headway.base.addresses import hide_credentials
from headway.base.errors import Finding, Remedy

HIDDEN = "..."
_NAME_WORDS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+(?![a-z])")
# Words of names that promise a secret: HF_TOKEN, wandbApiKey, aws_secret_access_key, --password
_SECRET = re.compile(
    r".*(?:token|secret|passw(?:or)?d|passphrase|(?:api|access|secret|private)key)"
    r"|pass|pwd|credentials?|auth|authorization|bearer|jwt|cookie|dsn|signature|sig|sas|webhook"
    r"|notify|netrc"
)
# A key that comes after one of these is a secret, whatever follows: AWS_ACCESS_KEY_ID
_KEYS = frozenset(
    ("api", "access", "secret", "private", "account", "signing", "encryption", "ssh", "deploy")
)
_TEXT_TOKEN = re.compile(
    r"(?:pad|eos|bos|unk|sep|cls|mask|image|audio|video|end|start|stop|special|first|last|next)"
)
_USERS = ("-u", "--user", "--proxy-user")  # of curl: NAME:PASSWORD
_HARMLESS = re.compile(r"-?[\d.,]{0,9}|true|false|none|null|auto|yes|no", re.IGNORECASE)
# Code after a name such as `key`, whose secrets are in quotes: key=lambda row: row.size
_CODE = re.compile(r"lambda\b|self\.[a-z_]|(?:str|int|bool|float|bytes)\b(?!\S)")
_NAME = r"(?P<name>(?<![\w.-])-{0,2}\+{0,2}[A-Za-z_][\w.-]*)"
_NAMED = re.compile(r"[-+]*[A-Za-z_][\w.-]*")
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"?|'(?:[^'\\]|\\.)*'?"
_ASSIGNED = re.compile(rf"{_NAME}[\"']?\]?\s*(?:(?:=(?!=)>?|:)[ \t]*|(?<=[\"'])\s*,\s*(?=[\"']))")
_VALUE = re.compile(
    rf"{_QUOTED}|(?:bearer|basic|token)\s+[^\s\"']+|[^\s\"'({{\[]\S*", re.IGNORECASE
)
_OPTION = re.compile(
    rf"(?P<name>(?<![\w-])--?[A-Za-z][\w.-]*)(?P<link>[ \t]+)(?P<value>{_QUOTED}|[^\s\"'-]\S*)"
)
# A key of YAML at the beginning of a line: the rest of the line is its value, and deeper lines.
_KEY = re.compile(rf"(?P<indent>[ \t]*(?:-[ \t]+)*)[\"']?{_NAME}[\"']?[ \t]*:(?P<value>[ \t].*|)")
_SINGLE = re.compile(rf"[ \t]*(?:{_QUOTED})[ \t]*,?.*|[ \t]*[^\s\"',]*[ \t]*(?:#.*)?")
# What looks like a secret, whatever it is called.
_KNOWN = re.compile(
    r"""\b(?:hf_[A-Za-z0-9]{16,}
        |sk-[\w-]{16,}
        |gh[pousr]_\w{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}
        |(?:AKIA|ASIA)[0-9A-Z]{12,}
        |xox[a-z]-[\w-]{10,}
        |wandb_v\d_\w{16,}
        |AIza[\w-]{30,}
        |eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)""",
    re.VERBOSE,
)
_LOGIN = re.compile(r"\b(login|set_token|save_token)(\(\s*[\"'])[^\"']*")
_BEARER = re.compile(r"\b(bearer|basic)(\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_HOOK = re.compile(
    r"((?:hooks\.slack\.com|discord(?:app)?\.com|ntfy\.sh|(?<![\w.-])[\w.-]+\.webhook\.office\.com)/)\S+"
)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL
)
_LOOKS_RANDOM = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*\d)[A-Za-z0-9+/=_-]{32,}")


def hide_secrets(text: str) -> str:
    """A text of any number of lines as it may be shown."""
    shown: list[str] = []
    deeper_than = -1  # columns of a secret's key: deeper lines belong to its value
    for line in _PRIVATE_KEY.sub(HIDDEN, text).splitlines(keepends=True):
        indent = len(line) - len(line.lstrip())
        if deeper_than >= 0 and (indent > deeper_than or not line.strip()):
            continue
        deeper_than = -1
        key = _KEY.match(line)
        if key and is_secret_name(key["name"]) and not _SINGLE.fullmatch(key["value"].rstrip()):
            end = line[len(line.rstrip("\r\n")) :]
            line = f"{line[: key.start('value')]} {HIDDEN}{end}"
        elif key and is_secret_name(key["name"]) and key["value"].strip() in ("", "|", ">", "|-"):
            deeper_than = indent
        shown.append(_hide_in_line(line))
    return "".join(shown)


def hide_arguments(words: Sequence[str]) -> tuple[str, ...]:
    """The arguments of a command as they may be shown."""
    shown: list[str] = []
    before = ""
    for word in words:
        is_option = word.startswith("--")
        if not is_option and _takes_secret(before):
            shown.append(word if _HARMLESS.fullmatch(word) else HIDDEN)
            before = ""
            continue
        name, equals, _ = word.partition("=")
        if equals and is_secret_name(name) and _NAMED.fullmatch(name):
            word = word if _HARMLESS.fullmatch(word[len(name) + 1 :]) else f"{name}={HIDDEN}"
        if before in _USERS and ":" in word:
            word = f"{word.partition(':')[0]}:{HIDDEN}"
        shown.append(HIDDEN if _looks_random(word) else hide_secrets(word))
        before = word
    return tuple(shown)


def _takes_secret(option: str) -> bool:
    """Whether what follows this word is a secret: `--token X`, `wandb login X`."""
    if option == "login":
        return True
    return option.startswith("-") and "=" not in option and is_secret_name(option)


def hide_in_value(value: object) -> object:
    """A value of JSON as it may be shown."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, list):
        return [hide_in_value(one) for one in cast("list[object]", value)]
    if isinstance(value, dict):
        pairs = cast("dict[str, object]", value).items()
        return {name: _hide_named(name, one) for name, one in pairs}
    return value


def hide_in_finding(finding: Finding) -> Finding:
    """A finding as it may be shown."""
    return replace(
        finding,
        what=hide_secrets(finding.what),
        have=hide_secrets(finding.have),
        need=hide_secrets(finding.need),
        remedies=tuple(
            Remedy(hide_secrets(one.do), hide_secrets(one.gives)) for one in finding.remedies
        ),
    )


def is_secret_name(name: str) -> bool:
    """Whether what has this name may be a secret: an option, a variable, a key of YAML."""
    words = [word.lower() for word in _NAME_WORDS.findall(name)]
    if len(words) > 1 and words[-1] == "token" and _TEXT_TOKEN.fullmatch(words[-2]):
        return False
    if words and words[-1] in ("key", "keys"):
        return True
    is_key = any(a in _KEYS and b == "key" for a, b in itertools.pairwise(words))
    return is_key or any(map(_SECRET.fullmatch, words))


def _hide_named(name: str, value: object) -> object:
    if isinstance(value, str) and is_secret_name(name) and not _HARMLESS.fullmatch(value):
        return HIDDEN
    return hide_in_value(value)


def _hide_in_line(line: str) -> str:
    line = _HOOK.sub(rf"\1{HIDDEN}", line)
    line = _BEARER.sub(rf"\1\2{HIDDEN}", line)
    line = _LOGIN.sub(rf"\1\2{HIDDEN}", _KNOWN.sub(HIDDEN, line))
    line = _OPTION.sub(_without_value, _without_assigned(line))
    return hide_credentials(line)


def _without_assigned(line: str) -> str:
    """A line without the values of secret names; takes time in proportion to its length."""
    shown: list[str] = []
    at = 0
    while found := _ASSIGNED.search(line, at):
        shown.append(line[at : found.end()])
        at = found.end()
        value = _VALUE.match(line, at) if is_secret_name(found["name"]) else None
        if value:
            shown.append(_hidden(found["name"], value[0]))
            at = value.end()
    return "".join([*shown, line[at:]])


def _without_value(found: re.Match[str]) -> str:
    name, value = found["name"], found["value"]
    return f"{name}{found['link']}{_hidden(name, value)}" if is_secret_name(name) else found[0]


def _hidden(name: str, value: str) -> str:
    """What is shown for the value of a secret name: itself if it is none."""
    is_code = name.endswith(("key", "keys")) and _CODE.match(value)
    if is_code or _HARMLESS.fullmatch(value.strip("\"',;)}]")):
        return value
    quote = value[0] if value[0] in "\"'" else ""
    return f"{quote}{HIDDEN}{quote}"


def _looks_random(word: str) -> bool:
    return bool(_LOOKS_RANDOM.fullmatch(word)) and not word.startswith("/")
