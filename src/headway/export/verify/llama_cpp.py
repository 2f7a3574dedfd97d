"""llama.cpp with one GGUF file: its tokens, its chats, its probabilities, its answers."""

import contextlib
import json
import os
import select
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from headway.base.process import ChildProcess
from headway.export.verify.serve import Listening

_START_S = 600.0  # to load a file
_REQUEST_S = 600.0
_POLL_S = 0.2
_CHAT_CONTEXT = 1024  # tokens of a question with its answer
_SHOWN_CHARACTERS = 300
_ERROR = " E "  # in a line of its log, behind the time
_ALWAYS = 1000.0  # added to a token's logit

Message = dict[str, Any]


class LlamaCppError(Exception):
    """llama.cpp did not do what it was asked for; says what it said."""


@dataclass(frozen=True)
class Continuation:
    """What llama.cpp wrote.

    Attributes:
        ids: of its tokens, the one that ended it among them.
        ended: by a token that ends answers; False: by the number of tokens.
        top: the log-probabilities of the most likely first tokens, by id.
    """

    ids: tuple[int, ...]
    ended: bool
    top: dict[int, float]


@dataclass(frozen=True)
class ChatReply:
    """An answer in a chat.

    Attributes:
        text: of the answer.
        stopped: by itself.
        num_prompt_tokens: that the conversation had.
    """

    text: str
    stopped: bool
    num_prompt_tokens: int


class LlamaCpp:
    """A running server.

    Args:
        listening: where it is.
        on_request: called before each request.

    Attributes:
        address: as http://127.0.0.1:PORT.
        key: that its requests need.
        name: with the version.
    """

    def __init__(self, listening: Listening, on_request: Callable[[], None]) -> None:
        self.address, self.key = listening.address, listening.key
        self.name = f"llama.cpp in xllamacpp {listening.build}"
        self._on_request = on_request

    def tokens(self, text: str, *, begin: bool = False) -> list[int]:
        """The ids of a text; special tokens that it spells out are special tokens.

        Args:
            text: to encode.
            begin: with what llama.cpp puts before every text.
        """
        body = {"content": text, "add_special": begin, "parse_special": True}
        return list(self._post("/tokenize", body)["tokens"])

    def render(self, messages: Sequence[Message]) -> str:
        """A conversation as text, ready for an answer."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def complete(
        self, ids: Sequence[int], num_tokens: int, *, top: int = 1, force: int | None = None
    ) -> Continuation:
        """The most likely continuation.

        Args:
            ids: of the tokens so far.
            num_tokens: at most.
            top: how many log-probabilities.
            force: a token that is chosen in any case.
        """
        body = {
            "prompt": list(ids),
            "n_predict": num_tokens,
            "n_probs": top,
            "temperature": 0.0,
            "cache_prompt": True,
            "return_tokens": True,
            "logit_bias": [] if force is None else [[force, _ALWAYS]],
        }
        found = self._post("/completion", body)
        first = next(iter(found.get("completion_probabilities", [])), {"top_logprobs": []})
        return Continuation(
            ids=tuple(found["tokens"]),
            ended=found.get("stop_type") == "eos",
            top={one["id"]: one["logprob"] for one in first["top_logprobs"]},
        )

    def chat(self, messages: Sequence[Message], num_tokens: int) -> ChatReply:
        """The most likely answer, as a program that uses OpenAI's protocol gets it."""
        body = {"messages": list(messages), "max_tokens": num_tokens, "temperature": 0.0}
        found = self._post("/v1/chat/completions", body)
        choice = found["choices"][0]
        return ChatReply(
            text=str(choice["message"].get("content") or ""),
            stopped=choice["finish_reason"] == "stop",
            num_prompt_tokens=int(found["usage"]["prompt_tokens"]),
        )

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        self._on_request()
        request = urllib.request.Request(  # noqa: S310 - our own server
            self.address + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self.key}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_S) as reply:  # noqa: S310
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise LlamaCppError(_message_in(error.read())) from error
        except (OSError, ValueError) as error:
            raise LlamaCppError(f"{path}: {error}"[:_SHOWN_CHARACTERS]) from error


@contextlib.contextmanager
def running(
    file: Path, context: int, on_wait: Callable[[], None] = lambda: None
) -> Generator[LlamaCpp]:
    """llama.cpp with a file, as long as the block runs.

    Args:
        file: GGUF.
        context: tokens that it must hold.
        on_wait: called while it loads, and before each request.

    Raises:
        LlamaCppError: it cannot load the file.
    """
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory(prefix="headway-") as folder:
        process = ChildProcess(
            "headway.export.verify.serve",
            [str(file), str(context), str(threads or 1)],
            log=Path(folder) / "llama.cpp.err",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            own_session=False,
        )
        try:
            yield LlamaCpp(_await(process, on_wait), on_wait)
        finally:
            process.end()


def ask(
    file: Path,
    questions: Sequence[str],
    num_tokens: int,
    on_answer: Callable[[int], None] = lambda _: None,
) -> tuple[ChatReply, ...]:
    """The most likely answers to questions, each asked in a chat of its own.

    Args:
        file: GGUF.
        questions: that are asked.
        num_tokens: of an answer, at most.
        on_answer: called with how many there are, while the file loads too.

    Raises:
        LlamaCppError: it cannot load the file, or does not answer.
    """
    replies: list[ChatReply] = []
    with running(file, _CHAT_CONTEXT, lambda: on_answer(len(replies))) as llama:
        for question in questions:
            reply = llama.chat([{"role": "user", "content": question}], num_tokens)
            replies.append(reply)
    on_answer(len(replies))
    return tuple(replies)


def _await(process: ChildProcess, on_wait: Callable[[], None]) -> Listening:
    """Wait until it listens."""
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s:
        on_wait()
        if select.select([process.stdout], [], [], _POLL_S)[0]:
            with contextlib.suppress(msgspec.DecodeError):
                return msgspec.json.decode(process.stdout.readline(), type=Listening)
            break
    process.end()
    raise LlamaCppError(_reason(process.last_words()) or f"exit code {process.exit_code}")


def _reason(log: Sequence[str]) -> str:
    """Why it could not load a file: its first error, or else its last line."""
    errors = [line.partition(_ERROR)[2] for line in log if _ERROR in line]
    return " ".join(errors[:1] or log[-1:])[:_SHOWN_CHARACTERS].strip()


def _message_in(body: bytes) -> str:
    try:
        text = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        text = body.decode(errors="replace")
    return str(text)[:_SHOWN_CHARACTERS]
