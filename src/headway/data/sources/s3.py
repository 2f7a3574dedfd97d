"""S3 and S3-compatible sources: listings, and reads that resume where they stopped."""

import contextlib
import functools
import os
import re
import shlex
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, ComeBack, Refusal, Remedy, UsageError
from headway.base.foreign.answers import whole_number
from headway.base.network.retry import (
    DEFAULT_RETRY,
    Abandoned,
    RetryPolicy,
    TransientError,
    retry_call,
    retrying,
)
from headway.base.pulse import Pulse
from headway.base.units import plural, seconds
from headway.data.sources.source import Chunks, Source

if TYPE_CHECKING:
    from s3fs import S3FileSystem

_READ_BYTES = 1 << 18
_LISTING_S = 3600.0  # of any number of requests, each with its own timeout
_CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


def find(
    address: str, endpoint: str, pulse: Pulse, retry: RetryPolicy = DEFAULT_RETRY
) -> list[Source]:
    """The objects of an address, in the order of their keys.

    Args:
        address: s3://BUCKET/KEY, a prefix that ends in /, or a pattern.
        endpoint: address of the store; empty: the environment's, or Amazon's.
        pulse: shows every wait.
        retry: for requests to the store.

    Raises:
        UsageError: nothing found, permission denied, or s3fs is not installed.
        ComeBack: the store does not respond.
    """
    if endpoint:
        _check_endpoint(endpoint)
    bucket, _, key = address.removeprefix("s3://").partition("/")
    if not bucket:
        raise _refusal(
            address, endpoint, "no bucket in the address", "s3://BUCKET/KEY", Cause.ADDRESS_INVALID
        )
    if "@" in bucket or ":" in bucket:
        raise _password_in("the S3 address")

    def look() -> list[Source]:
        with _translate_errors(address, endpoint, retry):
            return _list_objects(_store(endpoint, retry), bucket, key, endpoint)

    patient = replace(retry, stall_timeout_s=_LISTING_S)
    name, host = hide_credentials(address), _host(endpoint)
    found = retry_call(look, name=name, host=host, pulse=pulse, retry=patient)
    if not found:
        what = "no object matches" if _is_pattern(key) else "no such object or prefix"
        need = "a key, a prefix with objects, or a pattern"
        raise _refusal(address, endpoint, what, need, Cause.SOURCE_NOT_FOUND)
    return found


def chunks(
    source: Source,
    pulse: Pulse,
    begin: int = 0,
    end: int | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> Chunks:
    """The bytes [begin, end) as they arrive.

    Raises:
        ComeBack: the store does not respond, or the object changed meanwhile.
        UsageError: it is gone, or access was withdrawn.
    """
    goal = source.size if end is None else min(end, source.size)

    def work(at: int, put: Callable[[bytes], None]) -> None:
        if at < goal:
            with _translate_errors(source.address, source.endpoint, retry, source):
                _read(source, at, goal, put, retry)

    return retrying(
        work,
        name=source.name,
        host=_host(source.endpoint),
        pulse=pulse,
        offset=begin,
        length=len,
        retry=retry,
    )


def _read(
    source: Source, at: int, goal: int, put: Callable[[bytes], None], retry: RetryPolicy
) -> None:
    from fsspec.asyn import sync

    store = _store(source.endpoint, retry)
    bucket, _, key = source.address.removeprefix("s3://").partition("/")
    got: Any = store.call_s3(
        "get_object",
        Bucket=bucket,
        Key=key,
        Range=f"bytes={at}-{goal - 1}",
        IfMatch=str(source.stamp[0]),
    )
    body = got["Body"]
    try:
        if at and not str(got.get("ContentRange", "")).startswith(f"bytes {at}-"):
            raise TransientError("the server sent a different byte range than requested")
        while piece := sync(store.loop, body.read, _READ_BYTES, timeout=retry.stall_timeout_s):
            at += len(piece)
            put(piece)
    finally:
        body.close()
    if at < goal:
        raise TransientError(f"the response ended {plural(goal - at, 'byte')} early")


def _list_objects(store: "S3FileSystem", bucket: str, key: str, endpoint: str) -> list[Source]:
    """The object with this key, or the objects under the prefix or matching the pattern."""
    if key and not _is_pattern(key) and not key.endswith("/"):
        with contextlib.suppress(FileNotFoundError):
            info: Any = store.info(f"{bucket}/{key}")
            if info["type"] == "file":
                return [_source(info, endpoint, found=False)]
    # Not `store.glob`: it lists each folder separately and ignores folders that it cannot list.
    pattern = key if _is_pattern(key) else f"{key.rstrip('/')}/**".lstrip("/")
    folder, _, stem = _literal_prefix(pattern).rpartition("/")
    listing: Any = store.find(f"{bucket}/{folder}", prefix=stem, detail=True)
    is_match = _matcher(pattern)
    return [
        _source(listing[name], endpoint, found=True)
        for name in sorted(listing)
        if listing[name]["type"] == "file" and is_match(name.removeprefix(f"{bucket}/"))
    ]


def _source(info: dict[str, Any], endpoint: str, *, found: bool) -> Source:
    address, size = f"s3://{info['name']}", whole_number(info.get("size"))
    tag = info.get("ETag")
    if size is None or not isinstance(tag, str) or not tag:
        raise _odd_listing(hide_credentials(address), endpoint, info)
    stamp = (tag, size)
    return Source(hide_credentials(address), None, size, found, stamp, address, endpoint)


def _odd_listing(name: str, endpoint: str, info: dict[str, Any]) -> UsageError:
    shown = ", ".join(f"{key} {info.get(key)!r}"[:60] for key in ("size", "ETag"))
    return _refusal(
        name,
        endpoint,
        f"the store lists it with {shown}",
        "a store that reports the size and the ETag of its objects",
        Cause.BAD_ANSWER,
    )


def _is_pattern(key: str) -> bool:
    return any(c in key for c in "*?[")


def _literal_prefix(pattern: str) -> str:
    return re.split(r"[*?[]", pattern, maxsplit=1)[0]


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a key matches a pattern; * stays within a level, ** crosses levels.

    Placeholders of folders do not match, nor do hidden keys, unless the typed part is hidden.
    """
    from fsspec.utils import glob_translate

    # As in a local pattern, ** in a part of a name is the same as *.
    parts = [part if part == "**" else re.sub(r"\*+", "*", part) for part in pattern.split("/")]
    regex = re.compile(glob_translate("/".join(parts)))
    typed = len(_literal_prefix(pattern))

    def is_match(key: str) -> bool:
        is_hidden = any(part.startswith(".") for part in key[typed:].split("/"))
        return not is_hidden and not key.endswith("/") and bool(regex.match(key))

    return is_match


# ---- the store -----------------------------------------------------------------------------------


@functools.cache
def _store(endpoint: str, retry: RetryPolicy) -> "S3FileSystem":
    """The client; anonymous where there are no credentials.

    Raises:
        UsageError: s3fs is not installed.
    """
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise UsageError(
            "reading s3:// needs a package that is not installed",
            cause=Cause.MISSING_PACKAGE,
            have="no s3fs",
            need="headway[s3]",
            remedies=(Remedy("pip install 'headway[s3]'", "s3fs and what it needs"),),
        ) from None
    from botocore.session import Session

    session: Any = Session()
    configured = session.get_scoped_config()
    # Newer clients send and check checksums that R2 and older stores refuse.
    checksums = {
        name: "when_required"
        for name in _CHECKSUMS
        if name not in configured and f"AWS_{name.upper()}" not in os.environ
    }
    waits = {
        "read_timeout": retry.stall_timeout_s,
        "connect_timeout": min(10.0, retry.stall_timeout_s),
    }
    store = S3FileSystem(
        anon=session.get_credentials() is None,
        endpoint_url=endpoint or None,
        # Retries are counted and shown in one place: base/network/retry.py.
        config_kwargs={**checksums, **waits, "retries": {"total_max_attempts": 1}},
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    store.retries = 1
    return store


def _host(endpoint: str) -> str:
    named = endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return named.partition("://")[2].rpartition("@")[2].partition("/")[0] if named else "S3"


@contextlib.contextmanager
def _translate_errors(
    address: str, endpoint: str, retry: RetryPolicy, source: Source | None = None
) -> Generator[None]:
    """Translate the client's errors into `TransientError` or a refusal."""
    try:
        yield
    except (Refusal, TransientError, Abandoned):
        raise
    except TimeoutError as error:
        raise TransientError(f"no data for {seconds(retry.stall_timeout_s)}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in _LIBRARIES and not isinstance(
            error, OSError
        ):
            raise
        raise _translate(error, address, endpoint, source) from error


# Whose errors may come out of a call to the store.
_LIBRARIES = ("aiobotocore", "aiohttp", "botocore", "fsspec", "s3fs", "urllib3")


def _translate(error: Exception, address: str, endpoint: str, source: Source | None) -> Exception:
    status, code = _error_code(error)
    label = f"{status} {code}" if code != str(status) else code  # HEAD has no code of its own
    if source and (status in (412, 416) or code == "PreconditionFailed"):
        return _source_changed(source)
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError"):
        return _refusal(address, endpoint, "no credentials", _CREDENTIALS, Cause.ACCESS_DENIED)
    if status in (401, 403) or (status == 400 and "Token" in code):
        why = f"permission denied ({label})"
        return _refusal(address, endpoint, why, _CREDENTIALS, Cause.ACCESS_DENIED)
    if status == 404:
        why = f"not found ({code})"
        return _refusal(
            address, endpoint, why, "an existing bucket and key", Cause.SOURCE_NOT_FOUND
        )
    if 400 <= status < 500 and status not in (408, 429):
        why = label
        return _refusal(
            address, endpoint, why, "a request that the store accepts", Cause.SOURCE_UNREADABLE
        )
    if type(error).__name__ in ("ParamValidationError", "InvalidRegionError"):
        why = "not a valid bucket name"
        return _refusal(address, endpoint, why, "s3://BUCKET/KEY", Cause.ADDRESS_INVALID)
    return TransientError(label if status else _transport(error))


_CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of a user who may read it"


def _error_code(error: Exception) -> tuple[int, str]:
    """HTTP status and the store's error code; 0 without a response."""
    response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return 0, ""
    answer: dict[str, Any] = response
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return int(status), str(answer.get("Error", {}).get("Code", ""))


def _transport(error: Exception) -> str:
    """A description by error type: the message may contain a signed address."""
    name = type(error).__name__
    return {
        "EndpointConnectionError": "no connection",
        "ConnectTimeoutError": "no connection in time",
        "ConnectionClosedError": "the connection was reset",
        "ClientPayloadError": "the connection was reset",
        "IncompleteReadError": "the response ended early",
    }.get(name, name)


def _source_changed(source: Source) -> ComeBack:
    return ComeBack(
        f"{source.name} changed while it was being read",
        cause=Cause.SOURCE_CHANGED,
        have=f"{source.stamp[0]} when it was found, a different one now",
        need="an object that does not change",
        remedies=(Remedy("run the same command again", "reads the new version"),),
    )


def _refusal(address: str, endpoint: str, why: str, need: str, cause: Cause) -> UsageError:
    flag = f" --endpoint-url {shlex.quote(endpoint)}" if endpoint else ""
    above = address.rpartition("/")[0] + "/" if address.count("/") > 2 else "s3://"
    return UsageError(
        f"cannot read {address}: {why}",
        cause=cause,
        have=f"{why}, from {_host(endpoint)}",
        need=need,
        remedies=(Remedy(f"aws s3 ls{flag} {shlex.quote(above)}", "lists what you may read"),),
    )


def _check_endpoint(endpoint: str) -> None:
    """Check that a store's address is one, and holds no password.

    Raises:
        UsageError: it is not.
    """
    address = re.fullmatch(r"https?://([^/?#]+).*", endpoint, re.IGNORECASE)
    if address is None:
        raise UsageError(
            f"endpoint_url: {endpoint} is not a valid address",
            cause=Cause.ADDRESS_INVALID,
            have=endpoint,
            need="http:// or https://, and a host",
            remedies=(Remedy("--endpoint-url http://127.0.0.1:9000", "is a valid one"),),
        )
    if "@" in address[1]:
        raise _password_in("endpoint_url")


def _password_in(what: str) -> UsageError:
    return UsageError(
        f"{what} contains a password",
        cause=Cause.INVALID_VALUE,
        have="a user name or password before the host",
        need="an address without a password: settings are saved with the run",
        remedies=(
            Remedy("export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...", "is not saved"),
        ),
    )
