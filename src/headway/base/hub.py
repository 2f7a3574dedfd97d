"""The Hugging Face hub: what it is called here, and what its refusals mean."""

import os
import re
import shlex
from collections.abc import Iterator
from typing import Literal

from headway.base.errors import ComeBack, Remedy, UsageError
from headway.base.retry import TransientError

RepoKind = Literal["model", "data set"]

_PASSES = (408, 429)  # and every 5xx
_LIBRARIES = ("huggingface_hub", "httpx", "httpx2", "datasets")


def is_id(name: str) -> bool:
    """Whether a name has the shape of the hub's: owner/name."""
    return bool(re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name)) and ".." not in name


def host() -> str:
    """Where the hub is: huggingface.co, or what HF_ENDPOINT says."""
    named = os.environ.get("HF_ENDPOINT", "").partition("://")[2].rpartition("@")[2]
    return named.partition("/")[0] or "huggingface.co"


def judged(error: Exception, kind: RepoKind, name: str, near: tuple[str, ...] = ()) -> Exception:
    """An error of the Hub libraries as `TransientError`, as a refusal, or unchanged.

    Args:
        error: whatever a call to them raised.
        kind: what was asked for.
        name: owner/name.
        near: lines to type instead, where the name is not known.
    """
    chain = list(_chain(error))
    names = {type(one).__name__ for one in chain}
    if "OfflineModeIsEnabled" in names:
        return offline(kind, name, "HF_HUB_OFFLINE is set")
    # `datasets` loses the cause of this one and keeps its words
    if "GatedRepoError" in names or "is a gated dataset" in str(error):
        return _gated(kind, name)
    status = next((s for s in map(_status, chain) if s), 0)
    if names & {"RepositoryNotFoundError", "DatasetNotFoundError"} or status == 404:
        return _missing(kind, name, near)
    if status in (401, 403):
        return _gated(kind, name)
    if status in _PASSES or status >= 500:
        return TransientError(f"{status}", _asked_s(chain))
    theirs = any(type(one).__module__.partition(".")[0] in _LIBRARIES for one in chain)
    if isinstance(error, ConnectionError | TimeoutError) or (theirs and _is_transport(chain)):
        return TransientError(_transport(names))
    return error


def offline(kind: RepoKind, name: str, why: str) -> ComeBack:
    """The hub cannot be reached, and what is asked for is not on this machine."""
    again = "unset HF_HUB_OFFLINE" if "HF_HUB_OFFLINE" in why else "the same command again"
    gives = "asks the hub" if "HF_HUB_OFFLINE" in why else f"when {host()} answers"
    return ComeBack(
        f"the {kind} {name} is not on this machine, and the hub cannot be asked",
        have=why + ("; not whole in the cache" if kind == "model" else ""),
        need=f"a way to {host()}, or a copy in a folder",
        remedies=(Remedy(again, gives),),
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
    return int(getattr(response, "status_code", 0) or 0)


def _asked_s(chain: list[BaseException]) -> float | None:
    for error in chain:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        asked = str(headers.get("retry-after", ""))
        if asked.isdigit():
            return float(asked)
    return None


def _is_transport(chain: list[BaseException]) -> bool:
    kinds = {kind.__name__ for error in chain for kind in type(error).__mro__}
    return bool(kinds & {"TransportError", "ConnectionError", "TimeoutError", "ConnectError"})


def _transport(names: set[str]) -> str:
    """Kinds of errors, not their words, which may hold a signed address."""
    if names & {"ConnectTimeout", "ReadTimeout", "PoolTimeout", "TimeoutError"}:
        return "no answer in time"
    if names & {"RemoteProtocolError", "ReadError", "IncompleteReadError"}:
        return "the connection was cut"
    return "no connection"


def _page(kind: RepoKind, name: str) -> str:
    return f"https://{host()}/{'' if kind == 'model' else 'datasets/'}{name}"


def _gated(kind: RepoKind, name: str) -> UsageError:
    known = any(os.environ.get(key) for key in ("HF_TOKEN", "HF_TOKEN_PATH"))
    return UsageError(
        f"the {kind} {name} is not open to everyone",
        have="a token that may not read it, or none that the hub knows" if known else "no token",
        need=f"its terms accepted on {_page(kind, name)}, and a token of that account",
        remedies=(
            Remedy("hf auth login", "keeps a token on this machine"),
            Remedy("export HF_TOKEN=...", "for this shell alone"),
        ),
    )


def _missing(kind: RepoKind, name: str, near: tuple[str, ...]) -> UsageError:
    flag = "models" if kind == "model" else "datasets"
    word = shlex.quote(name.partition("/")[2])
    return UsageError(
        f"there is no {kind} {name} on the hub",
        have=f"{host()} does not show it to us, and there is no folder {name} here",
        need="an id owner/name as its page shows it; a private one needs a token",
        remedies=tuple(Remedy(line) for line in near)
        or (Remedy(f"hf {flag} ls --search {word}", "what has a name like it"),),
    )
