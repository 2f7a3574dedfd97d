"""Monitoring of an inbox over HTTP, on this machine alone: /metrics, /healthz and /progressz."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from headway.base.errors import Cause, Remedy, UsageError
from headway.inbox.folder import InboxFolder
from headway.inbox.inbox_status import InboxStatus, inbox_status

HOST = "127.0.0.1"
_STUCK_S = 60.0  # without a step of the daemon's loop, which takes a tenth of a second
_HELP = {
    "headway_inbox_files": "Files taken, by outcome.",
    "headway_inbox_waiting_files": "Files waiting in the inbox.",
    "headway_inbox_global_step": "Global step of the current model.",
    "headway_inbox_training": "1 while a file is being trained.",
    "headway_inbox_step": "Finished steps of the file being trained.",
    "headway_inbox_steps": "Planned steps of that file.",
    "headway_inbox_loss": "Loss of the last step, nats per trained token.",
    "headway_inbox_last_file_seconds": "Seconds since the last file finished.",
    "headway_inbox_state_seconds": "Seconds since the daemon's state last changed.",
}


class Heart:
    """When the daemon's loop last came round.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_s = clock()

    def beat(self) -> None:
        """It has come round."""
        self._beat_s = self._clock()

    @property
    def is_alive(self) -> bool:
        """Whether it did not stop coming round."""
        return self._clock() - self._beat_s < _STUCK_S


def metrics(status: InboxStatus) -> str:
    """A status in Prometheus's text format."""
    run = status.run
    values: dict[str, dict[str, float | None]] = {
        "headway_inbox_files": {f'{{state="{k}"}}': v for k, v in sorted(status.counts.items())},
        "headway_inbox_waiting_files": {"": len(status.waiting)},
        "headway_inbox_global_step": {"": status.global_step},
        "headway_inbox_training": {"": float(status.state == "training")},
        "headway_inbox_step": {"": run.step if run else None},
        "headway_inbox_steps": {"": run.steps if run else None},
        "headway_inbox_loss": {"": run.loss if run else None},
        "headway_inbox_last_file_seconds": {"": status.last_file_s},
        "headway_inbox_state_seconds": {"": status.since_s},
    }
    lines: list[str] = []
    for name, samples in values.items():
        known = {label: value for label, value in samples.items() if value is not None}
        if known:
            lines += [f"# HELP {name} {_HELP[name]}", f"# TYPE {name} gauge"]
            lines += [f"{name}{label} {value:.10g}" for label, value in known.items()]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def monitored(inbox: InboxFolder, port: int | None, heart: Heart) -> Generator[int | None]:
    """Answer requests from this machine while the inbox is served.

    Args:
        inbox: to tell about.
        port: 0 for any that is free, None for none at all.
        heart: of the daemon.

    Yields:
        The port.

    Raises:
        UsageError: another program has it.
    """
    if port is None:
        yield None
        return
    try:
        server = ThreadingHTTPServer((HOST, port), _handler(inbox, heart))
    except OSError as error:
        raise _port_taken(port, error) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, name="monitoring", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _handler(inbox: InboxFolder, heart: Heart) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0  # of a client that says nothing

        def do_GET(self) -> None:
            """Answer one request."""
            # A page of another site may lead its visitor's browser here under a name of its own.
            host = self.headers.get("Host", "").rpartition(":")[0]
            if host not in (HOST, "localhost"):
                self._send(HTTPStatus.FORBIDDEN, "text/plain", "no such host\n")
                return
            match self.path.partition("?")[0]:
                case "/metrics":
                    text = metrics(inbox_status(inbox))
                    self._send(HTTPStatus.OK, "text/plain; version=0.0.4", text)
                case "/progressz":
                    plain = msgspec.json.encode(inbox_status(inbox)).decode()
                    self._send(HTTPStatus.OK, "application/json", plain + "\n")
                case "/healthz" if heart.is_alive:
                    self._send(HTTPStatus.OK, "text/plain", "ok\n")
                case "/healthz":
                    self._send(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", "stuck\n")
                case _:
                    self._send(HTTPStatus.NOT_FOUND, "text/plain", "/metrics /healthz /progressz\n")

        def _send(self, code: HTTPStatus, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            """Nothing: requests are not news."""

    return Handler


def _port_taken(port: int, error: OSError) -> UsageError:
    return UsageError(
        f"port {port} of {HOST} cannot be used",
        cause=Cause.INVALID_VALUE,
        have=error.strerror or str(error),
        need="a port that no other program has",
        remedies=(Remedy("--metrics-port 0", "any that is free"),),
    )
