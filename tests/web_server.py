"""An HTTP server of the tests' own that fails as it is told to, one request after the other."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# What may become of a request; `at` is the number of bytes that arrive before it.
FAULTS = (
    *("reset", "short", "stall", "drop", "slow", "chunked", "whole", "less"),
    *("429", "500", "503"),
)


@dataclass
class Fault:
    """How the server deals with one request."""

    kind: str = "good"
    at: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class WebServer:
    """Serves one content at every path.

    Attributes:
        content: what is served; tests may change it at any moment.
        etag: of the content; empty: the server tells nothing of it.
        script: faults of the next requests; afterwards every request is answered well.
        requests: (path, headers) of each request.
        extra: headers of every good answer.
    """

    def __init__(self, content: bytes = b"", etag: str = '"one"') -> None:
        self.content = content
        self.etag = etag
        self.script: list[Fault] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.extra: dict[str, str] = {}
        self.over = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.requests.append((self.path, dict(self.headers)))
                # who was given up on has gone
                with contextlib.suppress(ConnectionError):
                    server.answer(self)

            do_HEAD = do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def url(self, path: str = "data.jsonl", host: str = "127.0.0.1", user: str = "") -> str:
        return f"http://{user}{host}:{self.port}/{path}"

    def __enter__(self) -> "WebServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        tells = {"ETag": self.etag} if self.etag else {}
        self.serve(handler, self.content, self.extra | tells)

    def serve(
        self,
        handler: BaseHTTPRequestHandler,
        content: bytes,
        headers: dict[str, str],
        *,
        scripted: bool = True,
    ) -> None:
        """One file, or the fault that is next in the script."""
        handler.close_connection = True
        fault = self.script.pop(0) if scripted and self.script else Fault()
        if fault.kind == "drop":
            return
        if fault.kind.isdigit():
            self._head(handler, int(fault.kind), {"Content-Length": "0", **fault.headers})
            return
        begin, end = self._asked(handler, fault, len(content))
        body = content[begin:end]
        if "Range" in handler.headers and fault.kind != "whole":
            headers = headers | {"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}"}
        status = 206 if "Content-Range" in headers else 200
        if fault.kind == "chunked":
            self._head(handler, status, headers | {"Transfer-Encoding": "chunked"})
            handler.wfile.write(b"%x\r\n" % len(body) + body[: fault.at])
            return
        self._head(handler, status, headers | {"Content-Length": str(len(body))} | fault.headers)
        self._body(handler, body, fault)

    def _asked(self, handler: BaseHTTPRequestHandler, fault: Fault, size: int) -> tuple[int, int]:
        said = handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")
        begin, end = int(said[0]), min(int(said[1]) + 1 if said[1] else size, size)
        if fault.kind == "whole":
            return 0, size
        if fault.kind == "less" and "Range" in handler.headers:
            end = min(end, begin + max(1, fault.at))
        return begin, end

    def _body(self, handler: BaseHTTPRequestHandler, body: bytes, fault: Fault) -> None:
        if handler.command == "HEAD":
            return
        if fault.kind in ("good", "whole", "less"):
            handler.wfile.write(body)
            return
        if fault.kind == "slow":
            for begin in range(0, len(body), 1000):
                handler.wfile.write(body[begin : begin + 1000])
                time.sleep(0.0005)
            return
        handler.wfile.write(body[: fault.at])
        handler.wfile.flush()
        if fault.kind == "stall":
            self.over.wait(60)
        elif fault.kind == "reset":
            linger = struct.pack("ii", 1, 0)
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            # the file objects over it hold it open
            handler.rfile.close()
            handler.connection.close()

    def _head(self, handler: Any, status: int, headers: dict[str, str]) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()


@contextlib.contextmanager
def serving(content: bytes, etag: str = '"one"') -> Iterator[WebServer]:
    with WebServer(content, etag) as server:
        yield server
