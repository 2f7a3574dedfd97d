"""HTTP and HTTPS sources: downloads that resume at the byte where they stopped."""

import contextlib
import functools
import hashlib
import re
import shlex
import time
from collections.abc import Callable, Generator, Iterator
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headway.base.addresses import hide_credentials
from headway.base.errors import Cause, ComeBack, Refusal, Remedy, UsageError
from headway.base.foreign.answers import duration_s, whole_number
from headway.base.network.retry import (
    DEFAULT_RETRY,
    RetryPolicy,
    TransientError,
    retry_call,
    retrying,
)
from headway.base.pulse import Pulse
from headway.base.units import plural, seconds
from headway.base.version import __version__
from headway.data.sources.source import Chunks, Source

if TYPE_CHECKING:
    from ssl import SSLContext

    from httpx2 import Client, Response

# Few attempts: a mistyped host should be reported soon.
LOOKUP_RETRY = RetryPolicy(max_attempts=3)
_TRANSIENT = (408, 425, 429)  # and every 5xx
_PARTIAL = HTTPStatus.PARTIAL_CONTENT
_BEYOND_END = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE


def find(address: str, pulse: Pulse, retry: RetryPolicy = LOOKUP_RETRY) -> Source:
    """Look up a file's size and the ETag or date that identifies its content.

    This sends GET and reads only the headers: an address that is signed for GET refuses HEAD.

    Raises:
        UsageError: the server does not serve it.
        ComeBack: the server does not respond.
    """
    name = hide_credentials(address)

    def ask() -> Source:
        with _client(retry) as client, _request(client, address, 0, None, name) as got:
            _refuse_page(got, name)
            size = _size(got.headers, got.status_code)
            return Source(name, None, size, stamp=_stamp(got.headers, size), address=address)

    return retry_call(ask, name=name, host=_host(address), pulse=pulse, retry=retry)


def chunks(
    source: Source,
    pulse: Pulse,
    begin: int = 0,
    end: int | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
) -> Chunks:
    """The bytes [begin, end) as they arrive.

    An interrupted download resumes at the byte where it stopped. If the server does not identify
    the content (no ETag, no date), the bytes already read are read again and compared.

    Raises:
        ComeBack: the server does not respond, or the content changed meanwhile.
        UsageError: the server no longer serves it.
    """
    with _client(retry) as client:
        download = _Download(source, client, begin, end)
        pieces = retrying(
            download.work,
            name=source.name,
            host=_host(source.address),
            pulse=pulse,
            offset=begin,
            length=len,
            retry=retry,
        )
        with contextlib.closing(pieces):
            for piece in pieces:
                download.seen.update(piece)
                yield piece


class _Download:
    """The bytes [begin, end) of one file, in as many requests as it takes.

    Attributes:
        seen: digest of the bytes yielded so far.
    """

    def __init__(self, source: Source, client: "Client", begin: int, end: int | None) -> None:
        self.source = source
        self.client = client
        self.begin = begin
        self.end = end
        self.seen = hashlib.blake2b()

    def work(self, at: int, put: Callable[[bytes], None]) -> None:
        """Fetch the bytes from `at` on and `put` them.

        Raises:
            TransientError: a failure worth retrying.
            Refusal: a permanent failure.
        """
        source = self.source
        goal = min(self.end or source.size, source.size) if source.size else self.end
        if goal is not None and at >= goal:
            return
        # Without an ETag or a date, a range could come from another file.
        asked = at if source.stamp else self.begin
        with _request(self.client, source.address, asked, self.end, source.name) as got:
            stamp = _stamp(got.headers, _size(got.headers, got.status_code) or source.size)
            if stamp != source.stamp or got.status_code == _BEYOND_END:
                raise _source_changed(source, stamp)
            first = asked if got.status_code == _PARTIAL else 0
            for piece in self._new_bytes(got.iter_raw(), first, at):
                at += len(piece)
                put(piece)
        if goal is not None and at < goal:
            raise TransientError(f"the response ended {plural(goal - at, 'byte')} early")

    def _new_bytes(self, pieces: Iterator[bytes], first: int, at: int) -> Iterator[bytes]:
        """The bytes from `at` on of a response that begins at `first`.

        Raises:
            ComeBack: the bytes that were read before have changed.
        """
        again = hashlib.blake2b()
        compare = first <= self.begin and at > self.begin
        for piece in pieces:
            if first < at:
                again.update(piece[max(0, self.begin - first) : at - first])
            if compare and first + len(piece) >= at:
                compare = False
                if again.digest() != self.seen.digest():
                    raise _source_changed(self.source, ())
            if first + len(piece) > at:
                begun, ended = max(0, at - first), self._end_in(len(piece), first)
                if begun < ended:
                    yield piece[begun:ended]
            first += len(piece)
        if first < at:  # the complete file is now shorter
            raise _source_changed(self.source, ())

    def _end_in(self, length: int, first: int) -> int:
        return length if self.end is None else min(length, self.end - first)


def supports_ranges(source: Source, pulse: Pulse) -> bool:
    """Whether the server supports range requests for this file."""

    def ask() -> bool:
        with (
            _client(LOOKUP_RETRY) as client,
            _request(client, source.address, 0, 1, source.name) as got,
        ):
            return got.status_code == _PARTIAL

    place = _host(source.address)
    return retry_call(ask, name=source.name, host=place, pulse=pulse, retry=LOOKUP_RETRY)


def _client(retry: RetryPolicy) -> "Client":
    from httpx2 import Client, Timeout

    return Client(
        verify=_certificates(),
        follow_redirects=True,  # httpx sends a password only to the host it was given for
        timeout=Timeout(retry.stall_timeout_s, connect=min(10.0, retry.stall_timeout_s)),
        # With content encoding, byte offsets would not be stable.
        headers={"User-Agent": f"headway/{__version__}", "Accept-Encoding": "identity"},
    )


@functools.cache
def _certificates() -> "SSLContext":
    from httpx2 import create_ssl_context

    return create_ssl_context()


@contextlib.contextmanager
def _request(
    client: "Client", address: str, begin: int, end: int | None, name: str
) -> Generator["Response"]:
    """The response to a request for bytes [begin, end), or the whole file if ranges are ignored.

    Raises:
        TransientError: a failure worth retrying.
        UsageError: the server refuses, or the address is invalid.
    """
    from httpx2 import HTTPError, InvalidURL, TimeoutException

    wanted = {"Range": f"bytes={begin}-{'' if end is None else end - 1}"}
    try:
        with client.stream(
            "GET", address, headers=wanted if begin or end is not None else None
        ) as got:
            _check_response(got, name, begin)
            yield got
    except TimeoutException as error:
        raise TransientError(f"no data for {seconds(client.timeout.read or 0)}") from error
    except HTTPError as error:
        # The library's message may contain the address, and the address a password.
        words = str(error) if "://" not in str(error) else type(error).__name__
        raise TransientError(words or type(error).__name__) from error
    except InvalidURL as error:
        raise _invalid_address(name) from error


def _check_response(got: "Response", name: str, begin: int) -> None:
    status = got.status_code
    if status in _TRANSIENT or status >= 500:
        raise TransientError(
            _status_text(status), _retry_after_s(got.headers.get("retry-after"), time.time())
        )
    if status == _PARTIAL:
        said = re.match(r"bytes (\d+)-", got.headers.get("content-range", ""))
        if not said or whole_number(said[1]) != begin:
            raise TransientError("the server sent a different byte range than requested")
    elif status not in (HTTPStatus.OK, _BEYOND_END):
        raise _refusal(got, name)


def _retry_after_s(retry_after: str | None, now_s: float) -> float | None:
    """Seconds to wait according to Retry-After, which is a number or a date."""
    if not retry_after:
        return None
    if (asked_s := duration_s(retry_after)) is not None:
        return asked_s
    with contextlib.suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now_s)
    return None


def _size(headers: Any, status: int) -> int:
    """Size of the whole file; 0 if unknown."""
    if status == HTTPStatus.OK:
        return whole_number(headers.get("content-length")) or 0
    return whole_number(headers.get("content-range", "").rpartition("/")[2]) or 0


def _stamp(headers: Any, size: int) -> tuple[int | str, ...]:
    tells = headers.get("etag") or headers.get("last-modified")
    return (tells, size) if tells else ()


def _host(address: str) -> str:
    try:
        host = urlsplit(address).hostname
    except ValueError:
        host = None
    if not host:
        raise _invalid_address(hide_credentials(address))
    return host


def _status_text(status: int) -> str:
    with contextlib.suppress(ValueError):
        return f"{status} {HTTPStatus(status).phrase}"
    return str(status)


_CAUSES = {
    401: Cause.ACCESS_DENIED,
    403: Cause.ACCESS_DENIED,
    404: Cause.SOURCE_NOT_FOUND,
    410: Cause.SOURCE_NOT_FOUND,
}


# ---- refusals ------------------------------------------------------------------------------------


def _refusal(got: "Response", name: str) -> Refusal:
    """The refusal for an HTTP error that a retry does not fix."""
    status = got.status_code
    needs = {
        401: "an address without a password, or one with a user name and password",
        403: "an address you may read; a signed one may have expired",
    }
    # The address after redirects may be signed: only its host is shown.
    return UsageError(
        f"cannot fetch {name}: {_status_text(status)}",
        cause=_CAUSES.get(status, Cause.SOURCE_UNREADABLE),
        have=f"{_status_text(status)} from {got.url.host}",
        need=needs.get(status, "the address of a file"),
        remedies=(Remedy(f"curl -sSIL {shlex.quote(name)}", "shows the server's response"),),
    )


def _refuse_page(got: "Response", name: str) -> None:
    """Refuse a web page: it is usually a page about the file, or a login page."""
    kind = got.headers.get("content-type", "").partition(";")[0]
    if kind != "text/html" or name.endswith((".html", ".htm")):
        return
    raise UsageError(
        f"{name} is a web page, not data",
        cause=Cause.NOT_DATA,
        have="text/html",
        need="the address of the file itself, often linked as raw or download",
        remedies=(
            Remedy(
                f"curl -L -o page.html {shlex.quote(name)}",
                "then train page.html, if that is the data",
            ),
        ),
    )


def _invalid_address(name: str) -> UsageError:
    return UsageError(
        f"{name} is not a valid address",
        cause=Cause.ADDRESS_INVALID,
        have="no valid host after http:// or https://",
        need="https://HOST/PATH",
        remedies=(Remedy("https://example.org/data.jsonl", "is an example of a valid address"),),
    )


def _source_changed(source: Source, stamp: tuple[int | str, ...]) -> ComeBack:
    before, now = (", ".join(map(str, one)) for one in (source.stamp, stamp))
    return ComeBack(
        f"{source.name} changed while it was being read",
        cause=Cause.SOURCE_CHANGED,
        have=f"{before} when it was found, {now or 'nothing'} now" if before else "different bytes",
        need="a file that does not change",
        remedies=(Remedy("run the same command again", "reads the new version"),),
    )
