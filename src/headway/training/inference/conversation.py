"""Conversation of a chat: its messages, and the commands that can be typed between them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from headway.data.examples.jinja import RenderError

Message = dict[str, Any]

COMMANDS = {
    "help": ("/help", "show this"),
    "system": ("/system TEXT", "set instructions; without TEXT, remove them"),
    "clear": ("/clear", "forget the conversation; instructions stay"),
    "exit": ("/exit", "end the chat, as Ctrl+D does"),
}
HINT = "/help lists what else can be typed; Ctrl+D ends"
_SPACE = "A message that begins with / needs a space before it."
_COMMAND = re.compile(r"/([A-Za-z]+)(?:\s+(.*))?\s*")  # a path is a message


class Next(Enum):
    """What a line asks for."""

    ANSWER = "answer"  # of the model
    LINE = "line"  # the next one
    END = "end"


@dataclass(frozen=True)
class Reply:
    """What follows a line that a person typed."""

    next: Next
    lines: tuple[str, ...] = ()  # to show


class Conversation:
    """Messages between a person and a model.

    Args:
        render: the chat template: messages to text.
    """

    def __init__(self, render: Callable[[list[Message]], str]) -> None:
        self._render = render
        self._system: list[Message] = []
        self._turns: list[Message] = []

    @property
    def messages(self) -> list[Message]:
        """What the model is given next."""
        return [*self._system, *self._turns]

    def take(self, line: str) -> Reply:
        """Take a line: a command, or what the person says."""
        if not line.strip():
            return Reply(Next.LINE)
        typed = _COMMAND.fullmatch(line)
        if typed:
            return self._command(typed[1].lower(), (typed[2] or "").strip())
        self._turns.append({"role": "user", "content": line.strip() if line[:2] == " /" else line})
        return Reply(Next.ANSWER)

    def answered(self, text: str) -> None:
        """Add what the model answered."""
        self._turns.append({"role": "assistant", "content": text})

    def forget(self) -> None:
        """Forget what was said; instructions stay."""
        self._turns = []

    def _command(self, name: str, text: str) -> Reply:
        if name not in COMMANDS:
            return Reply(Next.LINE, (f"there is no /{name}", *help_lines()))
        if name == "system":
            return Reply(Next.LINE, (self._set_system(text),))
        if text:
            return Reply(Next.LINE, (f"/{name} takes nothing after it", *help_lines()))
        if name == "help":
            return Reply(Next.LINE, help_lines())
        if name == "clear":
            self.forget()
            return Reply(Next.LINE, ("the conversation is forgotten",))
        return Reply(Next.END)

    def _set_system(self, text: str) -> str:
        """Set the instructions, if the template writes them; returns what to show."""
        if not text:
            self._system = []
            return "no instructions"
        system = [{"role": "system", "content": text}]
        try:
            written = self._render([*system, {"role": "user", "content": "Hi"}])
        except RenderError as error:
            return f"not set: the model's chat template takes no instructions ({error.detail})"
        if text not in written:
            return "not set: the model's chat template leaves instructions out"
        self._system = system
        return "instructions set; they come before the conversation so far"


def help_lines() -> tuple[str, ...]:
    """The commands, one per line."""
    width = max(len(typed) for typed, _ in COMMANDS.values())
    listed = (f"  {typed:{width}}  {what}" for typed, what in COMMANDS.values())
    return (*listed, _SPACE)
