"""Ollama's server: is it there, does it take the model, and what does the model answer."""

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.base.files import hash_file
from headway.export.ollama.modelfile import Modelfile

_PORT = 11434
_LOOK_S = 2.0  # to see whether it is there
_CREATE_S = 3600.0
_ANSWER_S = 600.0
_PIECE = 1 << 20  # bytes of a file that are sent at a time
_SHOWN_CHARACTERS = 300
_ANSWER_TOKENS = 128


class OllamaError(Exception):
    """Ollama did not do what it was asked for; says what it said."""


@dataclass(frozen=True)
class OllamaAnswer:
    """What a model in Ollama answered.

    Attributes:
        text: of the answer.
        stopped: by itself; False: by the number of tokens.
    """

    text: str
    stopped: bool


def server_address(variable: str | None = None) -> str:
    """Where Ollama listens, by its own rules for OLLAMA_HOST.

    Args:
        variable: instead of the environment's.
    """
    given = (os.environ.get("OLLAMA_HOST", "") if variable is None else variable).strip()
    scheme, _, rest = given.rpartition("://")
    scheme = scheme or "http"
    parts = urllib.parse.urlsplit("//" + rest.strip("\"'"))
    host = parts.hostname or "127.0.0.1"
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared, not bound
    usual = {"http": 80, "https": 443}.get(scheme, _PORT) if "://" in given else _PORT
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{parts.port or usual}"


class Ollama:
    """A running server.

    Args:
        address: as http://127.0.0.1:11434.
        on_bytes: called with the bytes of a file that were sent so far.
    """

    def __init__(self, address: str, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        self.address = address
        self._on_bytes = on_bytes

    def version(self) -> str:
        """Its version; "" if nothing answers there that is an Ollama."""
        try:
            return str(self._ask("GET", "/api/version", None, _LOOK_S).get("version", ""))
        except OllamaError:
            return ""

    def create(self, name: str, modelfile: Modelfile, folder: Path) -> None:
        """Make a model, as `ollama create` does.

        Args:
            name: of the model; one of that name is replaced.
            modelfile: what it is told.
            folder: of the GGUF file.

        Raises:
            OllamaError: it did not take it.
            OSError: the file cannot be read.
        """
        file = folder / modelfile.file
        digest = f"sha256:{hash_file(file).sha256}"
        if not self._has(digest):
            self._send(digest, file)
        body: dict[str, Any] = {
            "model": name,
            "files": {modelfile.file: digest},
            "parameters": {"num_ctx": modelfile.num_ctx, "stop": list(modelfile.stops)},
            "stream": False,
        }
        body |= {"system": modelfile.system} if modelfile.system else {}
        body |= {"template": modelfile.template} if modelfile.template else {}
        found = self._ask("POST", "/api/create", body, _CREATE_S)
        if found.get("status") != "success":
            raise OllamaError(f"/api/create: {found}"[:_SHOWN_CHARACTERS])

    def ask(self, name: str, question: str) -> OllamaAnswer:
        """Ask a question in a new conversation; the answer is the most likely one.

        Raises:
            OllamaError: there is none.
        """
        body = {
            "model": name,
            "messages": [{"role": "user", "content": question}],
            "stream": False,
            "options": {"temperature": 0, "num_predict": _ANSWER_TOKENS},
        }
        found = self._ask("POST", "/api/chat", body, _ANSWER_S)
        message = found.get("message")
        if not isinstance(message, dict) or not found.get("done"):
            raise OllamaError(f"/api/chat: {found}"[:_SHOWN_CHARACTERS])
        return OllamaAnswer(str(message.get("content", "")), found.get("done_reason") == "stop")

    def _has(self, digest: str) -> bool:
        request = urllib.request.Request(  # noqa: S310 - http or https, by `server_address`
            f"{self.address}/api/blobs/{digest}", method="HEAD"
        )
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_S):  # noqa: S310
                return True
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return False
            raise OllamaError(f"/api/blobs: {error}") from error
        except OSError as error:
            raise OllamaError(f"/api/blobs: {error}") from error

    def _send(self, digest: str, file: Path) -> None:
        request = urllib.request.Request(  # noqa: S310
            f"{self.address}/api/blobs/{digest}",
            data=self._pieces(file),
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(file.stat().st_size),
            },
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=_CREATE_S):  # noqa: S310
                pass
        except OSError as error:  # HTTPError is one, too
            raise OllamaError(f"/api/blobs: {error}") from error

    def _pieces(self, file: Path) -> Iterator[bytes]:
        done = 0
        with file.open("rb") as content:
            while piece := content.read(_PIECE):
                yield piece
                done += len(piece)
                self._on_bytes(done)

    def _ask(
        self, method: str, path: str, body: dict[str, Any] | None, timeout_s: float
    ) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310
            self.address + path, data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310
                found = json.loads(reply.read(1 << 22))
        except urllib.error.HTTPError as error:
            said = error.read(2000).decode(errors="replace").strip()
            raise OllamaError(f"{path}: {error.code} {said}"[:_SHOWN_CHARACTERS]) from error
        except (OSError, ValueError) as error:
            raise OllamaError(f"{path}: {error}"[:_SHOWN_CHARACTERS]) from error
        if not isinstance(found, dict):
            raise OllamaError(f"{path}: not an object")
        return found
