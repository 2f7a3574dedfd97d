"""A small Hugging Face hub of the tests' own: models and data sets by id, as the libraries ask."""

import json
import re
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.web_server import WebServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# kind, owner/name, and what is asked of it
_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+))?(.*)"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class HubServer(WebServer):
    """A hub; the script's faults befall the files, not what is told of them.

    Attributes:
        repos: "models" and "datasets": id -> path -> content.
        gated: ids whose files are not open.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {"models": {}, "datasets": {}}
        self.gated: set[str] = set()

    @property
    def files_sent(self) -> list[str]:
        """The paths of the files that were asked for, HEAD and GET."""
        return [path for path, _ in self.requests if "/resolve/" in path]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length).decode()
        url = urlsplit(handler.path)
        path = unquote(url.path)
        if found := re.fullmatch(r"/api/(models|datasets)", path):
            word = parse_qs(url.query).get("search", [""])[0]
            close = [i for i in self.repos[found[1]] if word.lower() in i.lower()]
            self._json(handler, [{"id": one, "modelId": one} for one in close])
        elif found := _API.fullmatch(path):
            self._about(handler, found, body)
        elif found := _FILE.fullmatch(path):
            self._file(handler, found)
        else:
            self._error(handler, 404, "", "no such page")

    def _about(self, handler: BaseHTTPRequestHandler, found: re.Match[str], body: str) -> None:
        kind, name, asked = found[1], found[2], found[3]
        files = self.repos[kind].get(name)
        if files is None:
            self._error(handler, 404, "RepoNotFound", "Repository not found")
        elif asked == "tree":
            recursive = "recursive=true" in handler.path.lower()
            self._json(handler, _listing(files, found[5].strip("/"), recursive=recursive))
        elif asked == "paths-info":
            paths = parse_qs(body).get("paths") or json.loads(body or "{}").get("paths", [])
            self._json(handler, _entries(files, [p for p in paths if p in files]))
        else:
            siblings = [{"rfilename": p, "size": len(c)} for p, c in files.items()]
            about: dict[str, Any] = {"id": name, "modelId": name, "sha": COMMIT}
            about |= {"private": False, "gated": False, "disabled": False, "tags": []}
            self._json(handler, about | {"siblings": siblings, "downloads": 0, "likes": 0})

    def _file(self, handler: BaseHTTPRequestHandler, found: re.Match[str]) -> None:
        name, path = found[2], found[4]
        files = self.repos["datasets" if found[1] else "models"].get(name)
        if files is None:
            self._error(handler, 404, "RepoNotFound", "Repository not found")
        elif name in self.gated:
            self._error(handler, 403, "GatedRepo", "Access to this repository is restricted")
        elif path not in files:
            self._error(handler, 404, "EntryNotFound", "Entry not found")
        else:
            etag = f'"{sha256(files[path]).hexdigest()}"'
            headers = {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            self.serve(handler, files[path], headers, scripted=handler.command != "HEAD")

    def _json(self, handler: BaseHTTPRequestHandler, value: object) -> None:
        body = json.dumps(value).encode()
        handler.close_connection = True
        self._head(
            handler, 200, {"Content-Type": "application/json", "Content-Length": str(len(body))}
        )
        handler.wfile.write(body)

    def _error(self, handler: BaseHTTPRequestHandler, status: int, code: str, words: str) -> None:
        handler.close_connection = True
        headers = {"Content-Length": "0", "X-Error-Message": words}
        self._head(handler, status, headers | ({"X-Error-Code": code} if code else {}))


def _entries(files: dict[str, bytes], paths: list[str]) -> list[dict[str, Any]]:
    return [
        {"type": "file", "path": p, "size": len(files[p]), "oid": sha256(files[p]).hexdigest()[:40]}
        for p in sorted(paths)
    ]


def _listing(files: dict[str, bytes], below: str, *, recursive: bool) -> list[dict[str, Any]]:
    """The files of a folder, and its folders."""
    start = f"{below}/" if below else ""
    inside = [path for path in files if path.startswith(start)]
    folders = {
        start + path[len(start) :].split("/")[0] for path in inside if "/" in path[len(start) :]
    }
    deep = [{"type": "directory", "path": one, "oid": COMMIT} for one in sorted(folders)]
    direct = inside if recursive else [p for p in inside if "/" not in p[len(start) :]]
    return deep + _entries(files, direct)
