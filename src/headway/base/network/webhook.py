"""Webhook: notices posted to Slack, Discord, ntfy or any other address, in the format of each.

Posting never delays what it tells of and never changes how that ends: it happens in a thread, once,
within a time limit.
"""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from headway.base.addresses import hide_credentials
from headway.base.version import __version__

TIMEOUT_S = 10.0
_DISCORD_LONGEST = 1900  # characters; the service takes 2,000


@dataclass(frozen=True)
class Notice:
    """What is posted.

    Attributes:
        event: it is about.
        run: its name.
        title: one line.
        text: more, "" for nothing.
        facts: for programs.
    """

    event: Literal["stall", "restart", "end", "file"]
    run: str
    title: str
    text: str = ""
    facts: Mapping[str, object] = field(default_factory=dict[str, object])
    is_problem: bool = False


def is_webhook(url: str) -> bool:
    """Whether a text is an address that a notice can be posted to."""
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def request_for(url: str, notice: Notice) -> urllib.request.Request:
    """The request that a service understands, told by its host: Slack, Discord, ntfy, or JSON.

    Args:
        url: of the webhook.
        notice: to be posted.
    """
    host = (urlsplit(url).hostname or "").lower()
    whole = f"{notice.title}\n{notice.text}".strip()
    headers = {"User-Agent": f"headway/{__version__}", "Content-Type": "application/json"}
    if _is_of(host, "slack.com"):
        body = json.dumps({"text": whole}).encode()
    elif _is_of(host, "discord.com") or _is_of(host, "discordapp.com"):
        text = whole if len(whole) <= _DISCORD_LONGEST else whole[: _DISCORD_LONGEST - 1] + "…"
        body = json.dumps({"content": text, "allowed_mentions": {"parse": []}}).encode()
    elif _is_of(host, "ntfy.sh") or "ntfy" in host.split("."):
        headers["Content-Type"] = "text/plain; charset=utf-8"
        headers["Title"] = notice.title.encode("ascii", "replace").decode()[:200]
        headers["Priority"] = "high" if notice.is_problem else "default"
        headers["Tags"] = "warning" if notice.is_problem else "white_check_mark"
        body = (notice.text or notice.title).encode()
    else:
        plain = {"event": notice.event, "run": notice.run, "title": notice.title}
        body = json.dumps({**plain, "text": notice.text, **notice.facts}, default=str).encode()
    return urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310


def _is_of(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")


class Notifier:
    """Posts notices, one thread each.

    Args:
        url: of the webhook, "" for none.
        on_problem: called, in that thread, with a line that says why a notice was not taken.
        timeout_s: for each.
    """

    def __init__(
        self, url: str, on_problem: Callable[[str], None], timeout_s: float = TIMEOUT_S
    ) -> None:
        self._url, self._on_problem, self._timeout_s = url, on_problem, timeout_s
        self._threads: list[threading.Thread] = []

    def post(self, notice: Notice) -> None:
        """Post one; returns at once."""
        if not self._url:
            return
        self._threads = [one for one in self._threads if one.is_alive()]
        thread = threading.Thread(target=self._send, args=(notice,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self, seconds: float) -> None:
        """Let those under way finish, for so long at most."""
        until_s = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(until_s - time.monotonic(), 0.0))

    def _send(self, notice: Notice) -> None:
        host = urlsplit(self._url).hostname
        try:
            with urllib.request.urlopen(  # noqa: S310 - http and https alone, checked before
                request_for(self._url, notice), timeout=self._timeout_s
            ) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            self._on_problem(f"{host} did not accept the notification: {error.code} {error.reason}")
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            self._on_problem(f"cannot post to {host}: {hide_credentials(str(reason))}")
