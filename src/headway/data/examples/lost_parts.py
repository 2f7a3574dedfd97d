"""Lost parts: what a chat template does not write of a conversation.

Every part that a template might leave out gets a word of its own, and the conversation is rendered
once with these words: a word that is not in the text belongs to a part that leaves no trace. What
a template writes depends on which parts there are, not on what they say, so this is done once for
each shape of conversation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headway.data.examples.jinja import RenderError
from headway.data.examples.notes import ExampleNote

Message = dict[str, Any]
Messages = Sequence[Message]
RenderMessages = Callable[[Messages, Messages | None], str]

_Part = tuple[ExampleNote, int]  # of a conversation: its kind, and the number of its message

_WORD = "qzheadway"
_REASONING = ("reasoning_content", "thinking", "reasoning")
_THOUGHT_END = "</think>"
_MAX_SHAPES = 20_000


@dataclass(frozen=True)
class LostParts:
    """Parts of a conversation that its template does not write.

    Attributes:
        notes: one for each part.
        calls: numbers of the messages whose tool calls are lost.
        reasoning: numbers of the messages whose reasoning is lost.
    """

    notes: tuple[ExampleNote, ...] = ()
    calls: frozenset[int] = frozenset()
    reasoning: frozenset[int] = frozenset()


class PartFinder:
    """Finds lost parts, once for each shape.

    Args:
        render: renders messages and tools with the template.
    """

    def __init__(self, render: RenderMessages) -> None:
        self._render = render
        self._by_shape: dict[object, LostParts] = {}

    def find(self, messages: Messages, tools: Messages | None) -> LostParts:
        """What the template does not write of this conversation."""
        shape = (bool(tools), *map(_shape_of, messages))
        found = self._by_shape.get(shape)
        if found is None:
            found = self._look(messages, tools)
            if len(self._by_shape) < _MAX_SHAPES:
                self._by_shape[shape] = found
        return found

    def _look(self, messages: Messages, tools: Messages | None) -> LostParts:
        marked = _Marked(messages, tools)
        if not marked.words:
            return LostParts()
        try:
            text = self._render(marked.messages, marked.tools)
        except RenderError:  # it looks at what was marked, so it does not ignore it
            return LostParts()
        missing = {
            part for part, words in marked.words.items() if any(w not in text for w in words)
        }
        lost = sorted(part for part in missing if not self._is_dropped_later(part, marked))
        calls = {n for note, n in lost if note is ExampleNote.CALLS_LOST}
        return LostParts(
            notes=tuple(note for note, _ in lost),
            calls=frozenset(n for n in calls if not marked.is_any_in(text, n)),
            reasoning=frozenset(n for note, n in lost if note is ExampleNote.REASONING_LOST),
        )

    def _is_dropped_later(self, part: "_Part", marked: "_Marked") -> bool:
        """Whether reasoning is written in its own turn, and left out once more turns follow."""
        note, number = part
        if note is not ExampleNote.REASONING_LOST:
            return False
        try:
            text = self._render(marked.messages[: number + 1], marked.tools)
        except RenderError:
            return False
        return all(word in text for word in marked.words[part])


@dataclass
class _Marked:
    """A conversation with a word of its own in every part that may be lost."""

    messages: Messages
    tools: Messages | None
    words: dict[_Part, list[str]] = field(default_factory=dict[_Part, list[str]])
    num_words: int = 0

    def __post_init__(self) -> None:
        self.messages = [self._message(n, message) for n, message in enumerate(self.messages)]
        if self.tools:
            self.tools = [
                _named(tool, self._word(ExampleNote.TOOLS_LOST, 0)) for tool in self.tools
            ]

    def is_any_in(self, text: str, number: int) -> bool:
        """Whether a text has any tool call of a message."""
        return any(word in text for word in self.words[ExampleNote.CALLS_LOST, number])

    def _word(self, note: ExampleNote, number: int) -> str:
        self.num_words += 1
        word = f"{_WORD}{self.num_words}x"
        self.words.setdefault((note, number), []).append(word)
        return word

    def _message(self, number: int, message: Message) -> Message:
        role, content = message["role"], message.get("content")
        marked, calls = dict(message), calls_of(message)
        if calls:
            note = ExampleNote.CALLS_LOST
            marked["tool_calls"] = [_named(call, self._word(note, number)) for call in calls]
        if role == "assistant" and reasoning_of(message):
            word = self._word(ExampleNote.REASONING_LOST, number)
            for name in _REASONING:
                if isinstance(message.get(name), str):
                    marked[name] = f"{message[name]} {word}"
            if not any(message.get(name) for name in _REASONING):
                content = str(content).replace(_THOUGHT_END, f" {word} {_THOUGHT_END}", 1)
                marked["content"] = content
        note = _CONTENT_NOTES.get(role) if role != "assistant" or calls else None
        if note and isinstance(content, str) and content.split(_THOUGHT_END)[-1].strip():
            marked["content"] = f"{content} {self._word(note, number)}"
        return marked


_CONTENT_NOTES = {
    "system": ExampleNote.SYSTEM_LOST,
    "developer": ExampleNote.SYSTEM_LOST,
    "tool": ExampleNote.RESULTS_LOST,
    "assistant": ExampleNote.CONTENT_LOST,
}


def calls_of(message: Message) -> Messages:
    """The tool calls of a message."""
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def reasoning_of(message: Message) -> str:
    """The reasoning of a message, from a key of its own or from tags in its content."""
    for name in _REASONING:
        if isinstance(message.get(name), str) and message[name].strip():
            return message[name].strip()
    content = message.get("content")
    if not isinstance(content, str) or _THOUGHT_END not in content:
        return ""
    return content.split(_THOUGHT_END)[0].split("<think>")[-1].strip()


def _named(tool: Message, word: str) -> Message:
    """A tool or a call whose name ends in a word."""
    function = tool.get("function")
    if isinstance(function, dict):
        return {**tool, "function": {**function, "name": f"{function.get('name', '')}{word}"}}
    return {**tool, "name": f"{tool.get('name', '')}{word}"}


def _shape_of(message: Message) -> tuple[object, ...]:
    """Which parts a message has."""
    content = message.get("content")
    is_blank = not (isinstance(content, str) and content.strip())
    return (
        message["role"],
        len(calls_of(message)),
        reasoning_of(message),
        is_blank,
        frozenset(message),
    )
