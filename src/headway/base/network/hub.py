"""Hugging Face Hub: repository ids, its host, and its errors as refusals."""

import os
import re
import shlex
from collections.abc import Iterator
from typing import Literal

from headway.base.errors import Cause, ComeBack, Remedy, UsageError
from headway.base.foreign.answers import duration_s, whole_number
from headway.base.network.retry import TransientError

RepoKind = Literal["model", "dataset"]

_TRANSIENT = (408, 429)  # and every 5xx
_LIBRARIES = ("huggingface_hub", "httpx", "httpx2", "datasets")


def is_id(name: str) -> bool:
    """Whether a name has the form of a Hub repository id: owner/name."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name)) and ".." not in name


def host() -> str:
    """The Hub's host: huggingface.co, or the one in HF_ENDPOINT."""
    named = os.environ.get("HF_ENDPOINT", "").partition("://")[2].rpartition("@")[2]
    return named.partition("/")[0] or "huggingface.co"


def translate_hub_error(
    error: Exception,
    kind: RepoKind,
    name: str,
    similar: tuple[str, ...] = (),
    *,
    exists: bool = False,
) -> Exception:
    """Turn an error of the Hub's libraries into a `TransientError` or a refusal.

    Args:
        error: raised by a call to the libraries.
        kind: what was requested.
        name: owner/name.
        similar: lines to type instead if the repository does not exist.
        exists: the Hub has said that it does. `datasets` raises the same DatasetNotFoundError for
            a missing dataset and for one whose files this account may not read.

    Returns:
        The new error; the same one if it has nothing to do with the Hub.
    """
    chain = list(_chain(error))
    names = {type(one).__name__ for one in chain}
    if "OfflineModeIsEnabled" in names:
        return offline_mode(kind, name)
    if "GatedRepoError" in names or (exists and "DatasetNotFoundError" in names):
        return _access_denied(kind, name)
    status = next((s for s in map(_status, chain) if s), 0)
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"} or status == 404:
        return _not_found(kind, name, similar)
    if status in (401, 403):
        return _access_denied(kind, name)
    if status in _TRANSIENT or status >= 500:
        return TransientError(f"{status}", _retry_after_s(chain))
    from_library = any(type(one).__module__.partition(".")[0] in _LIBRARIES for one in chain)
    if isinstance(error, ConnectionError | TimeoutError) or (from_library and _is_transport(chain)):
        return TransientError(_transport_reason(names))
    return error


def offline_mode(kind: RepoKind, name: str) -> ComeBack:
    """HF_HUB_OFFLINE is set, and the cache does not have all of the repository."""
    return _offline(
        kind, name, "HF_HUB_OFFLINE is set", Remedy("unset HF_HUB_OFFLINE", "downloads it")
    )


def unreachable(kind: RepoKind, name: str, reason: str) -> ComeBack:
    """The Hub does not respond, and the cache does not have all of the repository."""
    again = Remedy("run the same command again", f"when {host()} responds")
    return _offline(kind, name, reason, again)


def _offline(kind: RepoKind, name: str, reason: str, remedy: Remedy) -> ComeBack:
    return ComeBack(
        f"the {kind} {name} is not on this machine, and the Hub is offline",
        cause=Cause.OFFLINE,
        have=reason + ("; the cache is incomplete" if kind == "model" else ""),
        need=f"a connection to {host()}, or a copy in a folder",
        remedies=(remedy,),
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _status(error: BaseException) -> int:
    response = getattr(error, "response", None)
    return whole_number(getattr(response, "status_code", 0)) or 0


def _retry_after_s(chain: list[BaseException]) -> float | None:
    for error in chain:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        asked_s = duration_s(str(headers.get("retry-after", "")))
        if asked_s is not None:
            return asked_s
    return None


def _is_transport(chain: list[BaseException]) -> bool:
    kinds = {kind.__name__ for error in chain for kind in type(error).__mro__}
    return bool(kinds & {"TransportError", "ConnectionError", "TimeoutError", "ConnectError"})


def _transport_reason(names: set[str]) -> str:
    """Describe an error by its type: its text may contain a signed address."""
    if names & {"ConnectTimeout", "ReadTimeout", "PoolTimeout", "TimeoutError"}:
        return "timed out"
    if names & {"RemoteProtocolError", "ReadError", "IncompleteReadError"}:
        return "the connection was closed"
    return "no connection"


def _page(kind: RepoKind, name: str) -> str:
    return f"https://{host()}/{'' if kind == 'model' else 'datasets/'}{name}"


def _access_denied(kind: RepoKind, name: str) -> UsageError:
    has_token = any(os.environ.get(key) for key in ("HF_TOKEN", "HF_TOKEN_PATH"))
    return UsageError(
        f"permission denied: the {kind} {name} is gated or private",
        cause=Cause.ACCESS_DENIED,
        have="a token without access" if has_token else "no token",
        need=f"access granted on {_page(kind, name)}, and a token of that account",
        remedies=(
            Remedy("hf auth login", "stores a token on this machine"),
            Remedy("export HF_TOKEN=...", "for this shell only"),
        ),
    )


def _not_found(kind: RepoKind, name: str, similar: tuple[str, ...]) -> UsageError:
    word = shlex.quote(name.partition("/")[2])
    return UsageError(
        f"the {kind} {name} was not found on the Hub",
        cause=Cause.MODEL_NOT_FOUND if kind == "model" else Cause.SOURCE_NOT_FOUND,
        have=f"404 from {host()}, and no folder {name} here",
        need="an id owner/name as shown on its page; a private one needs a token",
        remedies=tuple(Remedy(line) for line in similar)
        or (Remedy(f"hf {kind}s ls --search {word}", "lists similar names"),),
    )
