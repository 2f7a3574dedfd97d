"""Address redaction: URLs for display, without passwords, keys, signatures and queries.

Whatever a person types may hold a credential, and whatever is shown may be logged, saved with the
run and published. So every text of a refusal and every name of a source passes `hide_credentials`.
"""

import re

# Any number of slashes, even none: `https:/host` and `user:password@host` are common mistakes.
_ADDRESS = re.compile(r"(?<![\w.+-])([A-Za-z0-9][\w.+-]*):([/\\]*)(\S+)")
_PASSWORD_WITH_SPACES = re.compile(r"(:[/\\]+)[^/?#@\s]*:[^/?#@\s]*[ \t][^/?#@\n]*@")
_SIGNED = re.compile(r"(https?:[/\\]*[^\s?#]*)[?#].*", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(r"[^/\\?#]*")
_HOST = re.compile(r"(\[[^]]*\]|[^:]*)(:\d+)?")
_PUNCTUATION = "'\")]>,;:."  # of a sentence, around an address
_QUERY = re.compile(r"\?[^=/?]+=.*", re.DOTALL)  # a lone ? is a pattern, or part of a name
_WEB_QUERY = re.compile(r"[?#].*", re.DOTALL)
_SECRET_VALUE = re.compile(
    r"""([?&;](?:x-(?:amz|goog|oss|ms)-[\w-]+|awsaccesskeyid|sig|apikey|pwd|passwd|(?:[\w-]*[_-])?
        (?:signature|token|key|secret|password|credential|auth|jwt))=)([^\s&;]+)""",
    re.IGNORECASE | re.VERBOSE,
)
_HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}")


def hide_credentials(text: str) -> str:
    """An address, or a text with addresses in it, as it may be shown.

    User names, passwords and queries are left out. Where it is unclear what belongs to a
    password, more is left out rather than less.
    """
    signed = _SIGNED.fullmatch(text)
    text = signed[1] if signed else text
    text = _ADDRESS.sub(_without_credentials, _PASSWORD_WITH_SPACES.sub(r"\1", text))
    return _HUB_TOKEN.sub("hf_...", _SECRET_VALUE.sub(_without_value, text))


def _without_credentials(found: re.Match[str]) -> str:
    scheme, slashes, rest = found.groups()
    shown = rest.rstrip(_PUNCTUATION)
    authority = _AUTHORITY.match(rest)
    assert authority is not None, "it matches everything"
    user, at, _ = authority[0].rpartition("@")
    host = authority[0].rstrip(_PUNCTUATION) if authority[0] == rest else authority[0]
    if at:
        # A password may hold slashes and further @; a user name alone does not.
        shown = shown.rpartition("@")[2] if ":" in user else shown[len(user) + 1 :]
    elif not _HOST.fullmatch(host):
        # No port: it is a password, perhaps one that holds a slash or a question mark.
        if "@" in shown:
            shown = shown.rpartition("@")[2]
        elif slashes:
            shown = host.partition(":")[0]
    query = _WEB_QUERY if scheme.lower() in ("http", "https") else _QUERY
    return f"{scheme}:{slashes}{query.sub('', shown, 1)}{_punctuation_after(rest)}"


def _without_value(found: re.Match[str]) -> str:
    return f"{found[1]}...{_punctuation_after(found[2].removesuffix('...'))}"


def _punctuation_after(text: str) -> str:
    return text[len(text.rstrip(_PUNCTUATION)) :]
