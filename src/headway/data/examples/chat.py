"""Chat templates with jinja2, as transformers renders them, and which tokens are the answer.

A template that marks its answers (`{% generation %}`) says itself which characters are learned.
For any other one they are what an answer adds to the conversation before it:

    messages[:1] and the prompt for an answer   <|user|>Hi<|end|><|assistant|>
    messages[:2]                                <|user|>Hi<|end|><|assistant|>Hello!<|end|>
    learned                                                                   ^^^^^^^^^^^^^

Some templates write an answer otherwise once there is more after it: they drop its reasoning, or
what ends it. A row is one rendering of the whole conversation, so an answer is learned only where
the row, up to the answer's end, is what the model read and wrote when it was its turn. Any other
one is context, and noted. A row ends with the last answer that is to be learned: nothing behind it
teaches, and nothing behind it can change it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from headway.base.errors import Remedy, UsageError
from headway.data.examples.jinja import Jinja, Span, UnusableError
from headway.data.examples.tokenizer import TURN_END, Tokenizer
from headway.data.formats.records import Record, Rejected

# ChatML, with the answers marked.
CHATML = """\
{%- if tools %}
    {{- raise_exception('this chat template has no place for tools') }}
{%- endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' }}
    {%- if message['tool_calls'] %}
        {{- raise_exception('this chat template has no place for tool calls') }}
    {%- elif message['role'] == 'assistant' %}
        {%- generation %}
            {{- message['content'] + '<|im_end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def chatml_for(tokenizer: Tokenizer) -> str:
    """ChatML for a model that has no template.

    With the model's end token, unless its tokenizer knows ChatML's own; after the first token
    that the tokenizer puts before a text, if it puts one.
    """
    template = CHATML
    if tokenizer.id_of(TURN_END) is None:
        template = template.replace(f"'{TURN_END}'", "eos_token")
    return template if tokenizer.bos_id is None else "{{- bos_token }}\n" + template


# What is noted of an answer, and counted.
CONTEXT_ALONE = "answers as context alone: the template rewrites them later"
UNPROMPTED = "answers that begin otherwise than the template asks for them"

Message = dict[str, Any]
Messages = Sequence[Message]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as the text that is tokenised.

    Attributes:
        answers: characters [begin, end) of answers.
        inverted: False: these are learned, and nothing else. True: everything else is.
        notes: one for each answer that there is something to say of.
    """

    text: str
    answers: tuple[Span, ...]
    inverted: bool = False
    notes: tuple[str, ...] = ()


class Template:
    """A chat template of some tokenizer.

    Args:
        tokenizer: its special tokens are what the template calls `eos_token` and the like.
        source: Jinja, as in chat_template.jinja; left out, the tokenizer's own, of which there
            may be two: one for conversations with tools.
        now: the clock of `strftime_now`.

    Raises:
        UsageError: the tokenizer has no template, or it is no Jinja.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        with_tools = None if source else tokenizer.tool_template
        source = source or tokenizer.chat_template
        if source is None:
            raise UsageError(
                f"{tokenizer.origin} has no chat template",
                have="a tokenizer of a model that was not made to converse",
                need="chat_template.jinja beside the tokenizer",
                remedies=(Remedy("headway generate", "continues a text instead"),),
            )
        self._variables = tokenizer.special
        self._plain = Jinja(source, now)
        self._with_tools = Jinja(with_tools, now) if with_tools else self._plain

    def render(
        self,
        messages: Messages,
        tools: Messages | None = None,
        *,
        add_generation_prompt: bool = False,
    ) -> str:
        """The messages as text.

        Args:
            messages: OpenAI's shape.
            tools: JSON schemas of functions, handed to the template.
            add_generation_prompt: whether to end in what an answer is written after.

        Raises:
            UnusableError: the template fails on these messages.
        """
        handed_over = [_as_handed_over(one) for one in messages]
        return self._render(handed_over, tools, add_generation_prompt).text

    def render_record(self, record: Record, *, assistant_only: bool) -> Rendered | Rejected:
        """A conversation as text, and which characters are learned.

        Args:
            record: a conversation.
            assistant_only: learn its answers alone, or everything; in neither case an answer
                whose message says `train: false` or `weight: 0`.
        """
        messages = [_as_handed_over(one) for one in record.messages or ()]
        try:
            if assistant_only:
                return self._answers_alone(messages, record.tools)
            return self._all_but_untrained(messages, record.tools)
        except UnusableError as unusable:
            return Rejected(record.file, record.line, unusable.reason, unusable.detail)

    def _answers_alone(self, messages: Messages, tools: Messages | None) -> Rendered:
        wanted = [n for n in _answers(messages) if not _is_untrained(messages[n])]
        if not wanted:
            why = "every answer says train: false" if _answers(messages) else "no assistant message"
            raise UnusableError("no trained token", why)
        row = messages[: wanted[-1] + 1]
        return self._with_answers(row, tools, wanted)

    def _all_but_untrained(self, messages: Messages, tools: Messages | None) -> Rendered:
        unwanted = [n for n in _answers(messages) if _is_untrained(messages[n])]
        if not unwanted:
            return Rendered(self._render(messages, tools).text, (), inverted=True)
        rendered = self._with_answers(messages, tools, unwanted)
        if CONTEXT_ALONE in rendered.notes:
            raise _changes_earlier_turns()
        return replace(rendered, inverted=True, notes=())

    def _with_answers(
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int]
    ) -> Rendered:
        """The messages as text, and where these answers are in it."""
        whole = self._render(messages, tools)
        if not self._jinja(tools).marks_answers:
            return self._by_prefix(messages, tools, numbers, whole.text)
        if len(numbers) == len(_answers(messages)):
            return whole
        return self._of_those_marked(messages, tools, numbers, whole)

    def _of_those_marked(
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int], whole: Rendered
    ) -> Rendered:
        """What is marked of some answers: the marks of a message are those that it adds."""
        numbered = _answers(messages)
        ends = [0, *(len(self._render(messages[: n + 1], tools).answers) for n in numbered)]
        marks_of = dict(zip(numbered, pairwise(ends), strict=True))
        if ends[-1] != len(whole.answers) or any(a >= b for a, b in marks_of.values()):
            raise UnusableError("the template does not tell which answer a mark belongs to")
        kept = [mark for n in numbers for mark in whole.answers[slice(*marks_of[n])]]
        return replace(whole, answers=tuple(kept))

    def _by_prefix(
        self, messages: Messages, tools: Messages | None, numbers: Sequence[int], whole: str
    ) -> Rendered:
        found: list[Span] = []
        notes: list[str] = []
        for number in numbers:
            place = self._place(number, messages, tools, whole)
            if place is None:
                notes.append(CONTEXT_ALONE)
                continue
            begin, end, is_prompted = place
            found.append((begin, end))
            if not is_prompted:
                notes.append(UNPROMPTED)
        if not found:
            raise _changes_earlier_turns()
        return Rendered(whole, tuple(found), notes=tuple(notes))

    def _place(
        self, number: int, messages: Messages, tools: Messages | None, whole: str
    ) -> tuple[int, int, bool] | None:
        """Where an answer is in the whole, and whether it begins as it is prompted for.

        None where the whole does not begin as it did when this answer was its last message.
        """
        earlier, until = messages[:number], messages[: number + 1]
        try:
            after = whole if len(until) == len(messages) else self._render(until, tools).text
            if not whole.startswith(after):
                return None
            before = self._render(earlier, tools, prompt=True).text
            if after.startswith(before):
                return len(before), len(after), True
            begin = _where_they_part(before, after)
            unprompted = len(self._render(earlier, tools).text) if earlier else 0
            return (begin, len(after), False) if begin >= unprompted else None
        except UnusableError:  # it takes the whole conversation, but no beginning of it
            return None

    def _render(self, messages: Messages, tools: Messages | None, prompt: bool = False) -> Rendered:
        """The messages, handed over already, as text, and what is marked in it."""
        variables = {
            "messages": messages,
            "tools": list(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": prompt,
            **self._variables,
        }
        return Rendered(*self._jinja(tools).render(variables))

    def _jinja(self, tools: Messages | None) -> Jinja:
        return self._with_tools if tools else self._plain


def _answers(messages: Messages) -> list[int]:
    return [number for number, one in enumerate(messages) if one["role"] == "assistant"]


def _is_untrained(message: Message) -> bool:
    return message.get("train") is False or message.get("weight") == 0


def _where_they_part(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _changes_earlier_turns() -> UnusableError:
    return UnusableError(
        "the template changes earlier turns",
        "an answer is written otherwise, or not at all, once there is more after it",
    )


def _as_handed_over(message: Message) -> Message:
    """A message as transformers hands it to a template.

    What is None is missing. Reasoning goes by three names in data; templates read the first or
    the second.
    """
    if None in message.values():
        message = {name: value for name, value in message.items() if value is not None}
    for name in ("reasoning_content", "thinking", "reasoning"):
        if name in message:
            reasoning = message[name]
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message
