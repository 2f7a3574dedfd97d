"""Notices in the words of Slack, Discord, ntfy, or plain JSON; never in the way of the command."""

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from headway.base.network.webhook import Notice, Notifier, is_webhook, request_for

NOTICE = Notice("stall", "train", "train: no progress for 60 s", "why", {"cause": "deadlock"})


@pytest.mark.parametrize(
    ("url", "body"),
    [
        ("https://hooks.slack.com/services/T/B/x", {"text": f"{NOTICE.title}\nwhy"}),
        (
            "https://discord.com/api/webhooks/1/x",
            {"content": f"{NOTICE.title}\nwhy", "allowed_mentions": {"parse": []}},
        ),
        (
            "https://example.org/hook",
            {
                "event": "stall",
                "run": "train",
                "title": NOTICE.title,
                "text": "why",
                "cause": "deadlock",
            },
        ),
        (
            "https://notslack.com/hook",
            {
                "event": "stall",
                "run": "train",
                "title": NOTICE.title,
                "text": "why",
                "cause": "deadlock",
            },
        ),
    ],
)
def test_each_service_gets_its_own_json(url: str, body: dict[str, Any]) -> None:
    request = request_for(url, NOTICE)
    assert isinstance(request.data, bytes)
    assert json.loads(request.data) == body
    assert request.get_method() == "POST"


@pytest.mark.parametrize("url", ["https://ntfy.sh/topic", "https://ntfy.example.org/topic"])
def test_ntfy_gets_text_and_headers(url: str) -> None:
    request = request_for(url, NOTICE)
    assert request.data == b"why"
    assert request.get_header("Title") == NOTICE.title


def test_discord_gets_no_more_than_it_takes() -> None:
    request = request_for(
        "https://discord.com/api/webhooks/1/x", Notice("end", "r", "t", "x" * 9000)
    )
    assert isinstance(request.data, bytes)
    assert len(json.loads(request.data)["content"]) <= 2000


@pytest.mark.parametrize(
    ("url", "is_one"),
    [
        ("https://ntfy.sh/x", True),
        ("http://127.0.0.1:8080", True),
        ("ntfy.sh/x", False),
        ("file:///etc/passwd", False),
        ("https://", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_what_is_the_address_of_a_webhook(url: str, is_one: bool) -> None:
    assert is_webhook(url) is is_one


class HookServer(http.server.ThreadingHTTPServer):
    """Takes what is posted to /ok."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        super().__init__(("127.0.0.1", 0), Hook)


class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, HookServer)
        self.server.got.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200 if self.path == "/ok" else 403)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...  # pyright: ignore[reportIncompatibleMethodOverride]


@pytest.fixture
def hook() -> Iterator[HookServer]:
    server = HookServer()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_notice_arrives(hook: HookServer) -> None:
    problems: list[str] = []
    notifier = Notifier(f"http://127.0.0.1:{hook.server_port}/ok", problems.append)
    notifier.post(NOTICE)
    notifier.wait(10.0)
    assert json.loads(hook.got[0])["title"] == NOTICE.title
    assert problems == []


def test_what_was_posted_is_not_kept(hook: HookServer) -> None:
    notifier = Notifier(f"http://127.0.0.1:{hook.server_port}/ok", lambda _: None)
    before = threading.active_count()
    for number in range(20):
        notifier.post(NOTICE)
        notifier.wait(10.0)
        assert len(hook.got) == number + 1
    assert threading.active_count() <= before + 1  # the server's own
    notifier.wait(10.0)


def test_a_refused_notice_is_said(hook: HookServer) -> None:
    problems: list[str] = []
    notifier = Notifier(f"http://127.0.0.1:{hook.server_port}/no?token=secret", problems.append)
    notifier.post(NOTICE)
    notifier.wait(10.0)
    assert problems == ["127.0.0.1 did not accept the notification: 403 Forbidden"]


def test_a_server_that_does_not_answer_delays_nobody() -> None:
    import socket

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        problems: list[str] = []
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        notifier = Notifier(url, problems.append, timeout_s=0.3)
        notifier.post(NOTICE)
        assert problems == []  # it is not waited for
        notifier.wait(10.0)
        assert len(problems) == 1
