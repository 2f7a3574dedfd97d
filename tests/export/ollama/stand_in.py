"""A server that speaks as much of Ollama's API as a model's creation and a chat need."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandIn:
    """What it was sent, and what it answers.

    Attributes:
        blobs: file content by digest.
        models: what each was created with.
        answer: of every chat.
        done_reason: why an answer ended.
        refuses: a path that is answered with an error.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.models: dict[str, dict[str, Any]] = {}
        self.chats: list[dict[str, Any]] = []
        self.answer, self.done_reason = "Paris.", "stop"
        self.refuses = ""
        self.address = ""


class _Handler(BaseHTTPRequestHandler):
    @property
    def state(self) -> StandIn:
        return self.server.state  # type: ignore[attr-defined]

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        assert self.path == "/api/version"
        self.reply(200, {"version": "0.33.2"})

    def do_HEAD(self) -> None:
        self.reply(200 if self.path.rpartition("/")[2] in self.state.blobs else 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.state.refuses and self.path.startswith(self.state.refuses):
            self.reply(500, {"error": "no space left on device"})
        elif self.path.startswith("/api/blobs/"):
            self.take_blob(self.path.rpartition("/")[2], body)
        elif self.path == "/api/create":
            self.create(json.loads(body))
        else:
            assert self.path == "/api/chat"
            self.chat(json.loads(body))

    def take_blob(self, digest: str, body: bytes) -> None:
        right = digest == f"sha256:{hashlib.sha256(body).hexdigest()}"
        if right:
            self.state.blobs[digest] = body
        self.reply(201 if right else 400)

    def create(self, given: dict[str, Any]) -> None:
        known = all(one in self.state.blobs for one in given["files"].values())
        named = re.fullmatch(r"[\w.-]{1,80}", given["model"])
        if known and named:
            self.state.models[given["model"]] = given
        self.reply(200 if known and named else 400, {"status": "success"})

    def chat(self, given: dict[str, Any]) -> None:
        self.state.chats.append(given)
        if given["model"] not in self.state.models:
            self.reply(404, {"error": f"model '{given['model']}' not found"})
            return
        message = {"role": "assistant", "content": self.state.answer}
        done_reason = self.state.done_reason
        self.reply(200, {"message": message, "done": True, "done_reason": done_reason})

    def reply(self, code: int, body: Any = None) -> None:
        data = json.dumps(body or {}).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """A running server."""
    state = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.state = state  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
